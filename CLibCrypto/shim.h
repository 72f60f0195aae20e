#pragma once
// OpenSSL 3 recommends EVP_Digest, whose first call reads openssl.cnf and loads a provider: 1.8 ms, and a configuration
// that forbids SHA-1 would forbid index files. SHA1_Init and its kind do not read openssl.cnf.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

/// Writes the SHA-1 of `count` bytes to `digest`, which has room for SHA_DIGEST_LENGTH bytes.
/// See: man 3 SHA1_Init
static inline void wt_sha1(const void *bytes, size_t count, unsigned char *digest) {
    SHA_CTX context;
    SHA1_Init(&context);
    SHA1_Update(&context, bytes, count);
    SHA1_Final(digest, &context);
}
