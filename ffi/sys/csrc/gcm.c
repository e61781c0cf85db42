/* See gcm.h. Nothing here keeps state. */
#include "gcm.h"

#include <errno.h>
#include <string.h>

#ifdef __x86_64__

uint32_t shim_gcm_version(void) { return imb_get_version(); }

int shim_gcm_create(struct shim_gcm *gcm)
{
	IMB_MGR *manager = alloc_mb_mgr(0);
	IMB_ARCH arch = IMB_ARCH_NONE;
	int rc;

	memset(gcm, 0, sizeof(*gcm));
	if (manager == NULL)
		return ENOMEM;
	init_mb_mgr_auto(manager, &arch);
	rc = imb_get_errno(manager);
	if (rc != 0) {
		free_mb_mgr(manager);
		return rc;
	}
	gcm->manager = manager;
	gcm->features = manager->features;
	gcm->arch = arch;
	gcm->expand_128 = manager->gcm128_pre;
	gcm->expand_256 = manager->gcm256_pre;
	gcm->seal_128 = manager->gcm128_enc;
	gcm->seal_256 = manager->gcm256_enc;
	gcm->open_128 = manager->gcm128_dec;
	gcm->open_256 = manager->gcm256_dec;
	return 0;
}

void shim_gcm_free(const struct shim_gcm *gcm) { free_mb_mgr(gcm->manager); }

#else

uint32_t shim_gcm_version(void) { return SHIM_GCM_VERSION; }

int shim_gcm_create(struct shim_gcm *gcm)
{
	memset(gcm, 0, sizeof(*gcm));
	return ENOTSUP;
}

void shim_gcm_free(const struct shim_gcm *gcm) { (void)gcm; }

#endif
