//! Keys and seals: passphrase to key ring, envelope, signatures. The only home of aes-gcm and argon2; knows nothing of what is sealed.
