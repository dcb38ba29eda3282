/* A PKCS#11 module for tests. It passes everything on to the module named by
 * QCITY_FAULT_MODULE, counts the calls, and misbehaves on order.
 *
 * QCITY_FAULT_CONTROL names the file of orders, read at every call, one a line:
 *     FUNCTION FIRST LAST ACTION ARGUMENT
 * The order holds for the FIRST to the LAST call of FUNCTION, counted from 1 since
 * the state file was made. Actions:
 *     rv HEX        return this code and do nothing
 *     after HEX     do the work, then return this code
 *     hang -        never return
 *     crash segv|abort
 *     delay MS      wait, then do the work
 *     flip BIT      change one bit of the signature
 *     zero -        make the signature all zeros
 *     truncate N    cut the signature to N bytes
 *     swap -        exchange the halves r and s
 *     stale -       hand out, or work with, the first handle seen that is not the
 *                   right one (C_OpenSession, C_FindObjects, C_SignInit)
 * The state file is the control file's name and ".state": for every function the
 * number of calls and of faults, 64 bits each. It is shared by all processes, so
 * that "the third call" means the third one whoever makes it. A C_Sign that only
 * asks for the length is passed on and not counted. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"

_Static_assert(sizeof(ul) == sizeof(void *), "one word must hold every argument");

/* No PKCS#11 function has more than eight arguments, and each of them is a word.
 * Where the calling convention is one of registers cleaned up by the caller,
 * as on all of Linux's 64-bit machines, passing words that are not looked at does
 * no harm; so one type serves for all functions. */
typedef ul (*call)(ul, ul, ul, ul, ul, ul, ul, ul);

struct order { char action[16]; char arg[32]; };
struct count { uint64_t calls, faults; };

static const char *const names[F_COUNT] = {
#define X(i, name) #name,
	FUNCTIONS(X)
#undef X
};

static struct list *real, ours;
static struct count *state;
static ul handles[3]; /* the first session, object and signing key seen */

static int ordered(int fn, uint64_t n, struct order *o)
{
	const char *path = getenv("QCITY_FAULT_CONTROL");
	FILE *f = path ? fopen(path, "re") : NULL;
	char name[32];
	uint64_t first, last;
	int found = 0;

	if (!f)
		return 0;
	while (!found && fscanf(f, "%31s %lu %lu %15s %31s", name, &first, &last, o->action, o->arg) == 5)
		found = !strcmp(name, names[fn]) && n >= first && n <= last;
	fclose(f);
	if (!found)
		o->action[0] = 0; /* an order for someone else */
	return found;
}

static void spoil(const struct order *o, unsigned char *sig, ul *len)
{
	ul n = strtoul(o->arg, NULL, 10), half = *len / 2, i;

	if (!strcmp(o->action, "flip") && n < 8 * *len)
		sig[n / 8] ^= 0x80 >> n % 8;
	else if (!strcmp(o->action, "zero"))
		memset(sig, 0, *len);
	else if (!strcmp(o->action, "truncate") && n < *len)
		*len = n;
	else if (!strcmp(o->action, "swap"))
		for (i = 0; i < half; i++) {
			unsigned char b = sig[i];
			sig[i] = sig[half + i];
			sig[half + i] = b;
		}
}

/* other gives the first handle seen if it is another one, and remembers it. */
static ul other(int kind, ul handle, int stale)
{
	if (!handles[kind])
		handles[kind] = handle;
	return stale ? handles[kind] : handle;
}

static ul wrong(const struct order *o, const char *action) { return !strcmp(o->action, action); }

static ul dispatch(int fn, ul a, ul b, ul c, ul d, ul e, ul f, ul g, ul h)
{
	struct order o = { "", "" };
	int stale;
	ul rv;

	if (fn == F_C_Sign && !d)
		return ((call)real->fn[fn])(a, b, c, d, e, f, g, h);
	if (ordered(fn, __atomic_add_fetch(&state[fn].calls, 1, __ATOMIC_SEQ_CST), &o))
		__atomic_add_fetch(&state[fn].faults, 1, __ATOMIC_SEQ_CST);
	if (wrong(&o, "rv"))
		return strtoul(o.arg, NULL, 16);
	if (wrong(&o, "hang"))
		for (;;)
			pause();
	if (wrong(&o, "crash")) {
		if (!strcmp(o.arg, "segv"))
			*(volatile int *)0 = 0;
		abort();
	}
	if (wrong(&o, "delay"))
		usleep(1000 * strtoul(o.arg, NULL, 10));
	stale = wrong(&o, "stale");
	if (fn == F_C_SignInit)
		c = other(2, c, stale);
	rv = ((call)real->fn[fn])(a, b, c, d, e, f, g, h);
	if (rv == CKR_OK && fn == F_C_OpenSession && e)
		*(ul *)e = other(0, *(ul *)e, stale);
	if (rv == CKR_OK && fn == F_C_FindObjects && b && d && *(ul *)d)
		*(ul *)b = other(1, *(ul *)b, stale);
	if (rv == CKR_OK && fn == F_C_Sign)
		spoil(&o, (unsigned char *)d, (ul *)e);
	return wrong(&o, "after") ? strtoul(o.arg, NULL, 16) : rv;
}

#define X(i, name) \
	static ul fault_##name(ul a, ul b, ul c, ul d, ul e, ul f, ul g, ul h) \
	{ return dispatch(i, a, b, c, d, e, f, g, h); }
FUNCTIONS(X)
#undef X

/* share maps the counters, which outlive this process. */
static struct count *share(void)
{
	const char *path = getenv("QCITY_FAULT_CONTROL");
	size_t size = F_COUNT * sizeof(struct count);
	char name[4096];
	void *m;
	int fd;

	if (!path || snprintf(name, sizeof name, "%s.state", path) >= (int)sizeof name)
		return NULL;
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size) != 0)
		return NULL;
	m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return m == MAP_FAILED ? NULL : m;
}

ul C_GetFunctionList(void **out)
{
	const char *path = getenv("QCITY_FAULT_MODULE");
	void *lib = path ? dlopen(path, RTLD_NOW) : NULL;
	ul (*get)(void **) = lib ? (ul (*)(void **))dlsym(lib, "C_GetFunctionList") : NULL;

	if (!get || get((void **)&real) != CKR_OK || (!state && !(state = share())))
		return CKR_GENERAL_ERROR;
	ours.version[0] = 2; /* a longer list of a later version is not passed on */
	ours.version[1] = 40;
#define X(i, name) ours.fn[i] = (void *)fault_##name;
	FUNCTIONS(X)
#undef X
	ours.fn[F_C_GetFunctionList] = (void *)C_GetFunctionList;
	*out = &ours;
	return CKR_OK;
}
