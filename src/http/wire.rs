//! Connections: as many as there may be, and none for ever. Who is slow with a head, or does not take an answer, is let go; what
//! happens while a request is under way (slow bodies) is the business of `intake`. Knows nothing of requests but that there is one.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use crate::model::limits;

/// How long one may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// From the end of one request, or the beginning of the connection, to the end of the next head; a silent end is seen within
    /// twice the time.
    head: Duration,
    /// With taking the next piece of an answer.
    answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: Duration::from_secs(60), answer: Duration::from_secs(60) }
    }
}

/// A socket that takes so many connections at a time; the others wait to be taken.
pub(super) struct Listening {
    socket: TcpListener,
    seats: Arc<Semaphore>,
    patience: Patience,
}

impl Listening {
    pub(super) fn new(socket: TcpListener, patience: Patience) -> Self {
        Self { socket, seats: Arc::new(Semaphore::new(limits::CONNECTIONS)), patience }
    }
}

impl Listener for Listening {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // the semaphore is never closed
        let Ok(seat) = Arc::clone(&self.seats).acquire_owned().await else { return std::future::pending().await };
        loop {
            match self.socket.accept().await {
                Ok((stream, address)) => return (Connection::new(stream, seat, self.patience), address),
                // out of file descriptors, or the peer is gone already: neither is helped by haste
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Who is at the other end, and whether a request of theirs is under way.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    requests: Arc<Requests>,
}

#[derive(Default)]
struct Requests {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Peer {
    /// A request is under way until what this gives is dropped.
    pub(super) fn request(&self) -> UnderWay {
        self.requests.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.requests))
    }
}

/// A request under way: its connection may be silent.
pub(super) struct UnderWay(Arc<Requests>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Listening>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listening>) -> Self {
        Self { address: *stream.remote_addr(), requests: Arc::clone(&stream.io().requests) }
    }
}

/// One connection, which ends when patience does.
pub(super) struct Connection {
    stream: TcpStream,
    requests: Arc<Requests>,
    patience: Patience,
    /// Until when the next head must be there, and after how many requests that was set.
    head: Pin<Box<Sleep>>,
    awaited_after: usize,
    /// Until when the peer must have taken something; set while it takes nothing.
    answer: Option<Pin<Box<Sleep>>>,
    _seat: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, seat: OwnedSemaphorePermit, patience: Patience) -> Self {
        Self {
            stream,
            requests: Arc::default(),
            patience,
            head: Box::pin(sleep(patience.head)),
            awaited_after: 0,
            answer: None,
            _seat: seat,
        }
    }

    /// Errs when a head has been waited for too long. The timer runs while a request is under way too: nobody may ask again when it ends.
    fn head_is_due(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let (begun, ended) =
                (self.requests.begun.load(Ordering::Relaxed), self.requests.ended.load(Ordering::Relaxed));
            let under_way = begun != ended;
            if under_way || self.awaited_after != ended {
                self.awaited_after = ended;
                self.head.as_mut().reset(Instant::now() + self.patience.head);
            }
            match self.head.as_mut().poll(cx) {
                Poll::Ready(()) if under_way => {}
                Poll::Ready(()) => return Err(io::ErrorKind::TimedOut.into()),
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Passes on what a write came to; errs when the peer has taken nothing for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.answer = None;
            // an answer may take long as long as it is taken: the next head is waited for from its end
            self.awaited_after = usize::MAX;
            return result;
        }
        let patience = self.patience.answer;
        let due = self.answer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(due.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // asked first: who trickles is always ready to be read
        self.head_is_due(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::{extract::ConnectInfo, handler::HandlerWithoutStateExt, http::Uri};

    use super::*;

    /// Serves with so little patience that nobody has to wait: `/slow` answers after several times the patience, all else with more
    /// than any buffer of a socket holds.
    fn serve() -> (tokio::runtime::Runtime, SocketAddr) {
        const PATIENCE: Duration = Duration::from_millis(100);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = socket.local_addr().unwrap();
        let handler = |ConnectInfo(peer): ConnectInfo<Peer>, uri: Uri| async move {
            let _under_way = peer.request();
            match uri.path() {
                "/slow" => {
                    sleep(PATIENCE * 5).await;
                    b"done".to_vec()
                }
                _ => vec![0_u8; 64 << 20],
            }
        };
        let listening = Listening::new(socket, Patience { head: PATIENCE, answer: PATIENCE });
        let service = handler.into_make_service_with_connect_info::<Peer>();
        runtime.spawn(async move { axum::serve(listening, service).await });
        (runtime, address)
    }

    fn connect(address: SocketAddr) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// What comes before the connection ends; that it ends is the point.
    fn rest(stream: &mut std::net::TcpStream) -> usize {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the connection is still there"),
            Ok(_) | Err(_) => bytes.len(),
        }
    }

    #[test]
    fn who_does_not_finish_a_head_is_let_go() {
        let (_runtime, address) = serve();
        let mut silent = connect(address);
        assert_eq!(rest(&mut silent), 0);
        let mut half = connect(address);
        half.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").unwrap();
        assert_eq!(rest(&mut half), 0);
        // one byte after the other does not put it off
        let mut trickling = connect(address);
        trickling.write_all(b"GET / HTTP/1.1\r\nx-slow: ").unwrap();
        let mut left = 100_000;
        while trickling.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
            left -= 1;
            assert!(left > 0, "the connection is still there");
        }
    }

    #[test]
    fn a_request_under_way_may_take_its_time_and_the_next_one_has_all_of_it() {
        let (_runtime, address) = serve();
        let mut stream = connect(address);
        for _ in 0..2 {
            stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let (mut answer, mut piece) = (Vec::new(), [0; 512]);
            while !answer.ends_with(b"done") {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "the connection ended: {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&piece[..read]);
            }
        }
        assert_eq!(rest(&mut stream), 0);
    }

    #[test]
    fn who_does_not_take_an_answer_is_let_go() {
        let (runtime, address) = serve();
        let mut stream = connect(address);
        stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        // nothing is taken for several times the patience
        runtime.block_on(async { sleep(Duration::from_millis(1_000)).await });
        assert!(rest(&mut stream) < 64 << 20);
    }
}
