/*
 * What Rust sees of ipsec-mb: AES-GCM, by the functions that the library chooses for this processor. Rust calls them
 * directly. The layout of its manager is that of one version of the library, so only C looks into it.
 */
#ifndef STOPOVER_GCM_H
#define STOPOVER_GCM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __x86_64__
#if !__has_include(<intel-ipsec-mb.h>)
#error "intel-ipsec-mb.h was not found; hint: apt-get install libipsec-mb-dev"
#endif
#include <intel-ipsec-mb.h>

static const uint32_t SHIM_GCM_VERSION = IMB_VERSION_NUM;
static const uint64_t SHIM_GCM_AES = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
static const uint64_t SHIM_GCM_TESTED = IMB_FEATURE_SELF_TEST;
static const uint64_t SHIM_GCM_TEST_PASSED = IMB_FEATURE_SELF_TEST_PASS;
/* With these the key has 48 powers of the hash key; else at most 8. */
static const uint64_t SHIM_GCM_WIDE = IMB_FEATURE_AVX512_SKX | IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;
#else
/* The library is for x86-64 only. Elsewhere there are its types, and nothing behind them. */
struct gcm_key_data { uint8_t none[64]; };
struct gcm_context_data { uint8_t none[64]; };
typedef void (*aes_gcm_pre_t)(const void *, struct gcm_key_data *);
typedef void (*aes_gcm_enc_dec_t)(const struct gcm_key_data *, struct gcm_context_data *, uint8_t *, uint8_t const *,
				  uint64_t, const uint8_t *, uint8_t const *, uint64_t, uint8_t *, uint64_t);

static const uint32_t SHIM_GCM_VERSION = 0;
static const uint64_t SHIM_GCM_AES = 1;
static const uint64_t SHIM_GCM_TESTED = 0;
static const uint64_t SHIM_GCM_TEST_PASSED = 0;
static const uint64_t SHIM_GCM_WIDE = 1;
#endif

/* A manager of the library, and what it chose. */
struct shim_gcm {
	void *manager;
	uint64_t features;
	uint32_t arch;                           /* IMB_ARCH; 0: none */
	aes_gcm_pre_t expand_128, expand_256;
	aes_gcm_enc_dec_t seal_128, seal_256, open_128, open_256;
};

/* The version of the library that is loaded, as IMB_VERSION has it. */
uint32_t shim_gcm_version(void);
/* 0, or an error of the library or errno. Only if the version is SHIM_GCM_VERSION. */
int shim_gcm_create(struct shim_gcm *gcm);
void shim_gcm_free(const struct shim_gcm *gcm);

#endif
