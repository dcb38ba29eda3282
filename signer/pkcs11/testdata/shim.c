/* A PKCS#11 module for tests: it forwards everything to the module named by
 * SHIM_MODULE and misbehaves on order. It can only do harm; it has no way to
 * make a failing call succeed.
 *
 * SHIM_FAULT names a file with one line "FUNCTION ACTION ARGUMENT", FUNCTION
 * one of C_OpenSession, C_Login, C_SignInit, C_Sign, C_GetTokenInfo. Actions:
 *   once HEX    return this code, one time (the file is removed)
 *   always HEX  return this code for as long as the file is there
 *   crash -     abort the process, one time
 *   hang -      never return, one time
 *   flip -      change one bit of the signature, one time (C_Sign)
 *   fifo PATH   wait until PATH has been opened and closed by a writer, one time
 *   flags HEX   set these token flags for as long as the file is there
 *   gather N    wait until N threads are in C_Sign, for as long as the file is there
 *   limit N     allow N sessions in all, for as long as the file is there (C_OpenSession)
 *   try WHAT    try what a sandbox should forbid, one time; "WHAT ERRNO" is added
 *               to the file SHIM_TRIED. WHAT: write:PATH read:PATH ptrace:PID
 *               signal:PID inet: keyring:
 * SHIM_PAD is the PIN somebody enters at the token, should C_Login get none.
 * SHIM_LOGINS names a file that grows by one byte at each C_Login.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef unsigned long ul;
typedef ul (*call1)(ul, void *);
typedef ul (*call3)(ul, void *, ul);
typedef ul (*close_fn)(ul);
typedef ul (*open_fn)(ul, ul, void *, void *, ul *);
typedef ul (*login_fn)(ul, ul, void *, ul);
typedef ul (*sign_fn)(ul, void *, ul, unsigned char *, ul *);
typedef ul (*list_fn)(void **);

/* CK_FUNCTION_LIST of version 2.40: a two-byte version, then 68 pointers. */
struct list { unsigned char version[2]; void *fn[68]; };
enum { GET_FUNCTION_LIST = 3, GET_TOKEN_INFO = 6, OPEN_SESSION = 12, CLOSE_SESSION = 13, LOGIN = 18, SIGN_INIT = 42, SIGN = 43 };
/* CK_TOKEN_INFO.flags follows label[32], manufacturer[32], model[16], serial[16]. */
enum { FLAGS_OFFSET = 96 };

static struct list *real, shim;

/* fault reports the action ordered for a function; arg gets its argument. */
static int fault(const char *function, char *action, char *arg)
{
	const char *path = getenv("SHIM_FAULT");
	char name[64];
	FILE *f = path ? fopen(path, "r") : NULL;
	int n;
	if (!f)
		return 0;
	n = fscanf(f, "%63s %15s %255s", name, action, arg);
	fclose(f);
	if (n != 3 || strcmp(name, function) != 0)
		return 0;
	if (strcmp(action, "always") != 0 && strcmp(action, "flags") != 0 && strcmp(action, "gather") != 0 &&
	    strcmp(action, "limit") != 0 && unlink(path) != 0)
		return 0; /* another thread has taken it */
	return 1;
}

/* escape tries what a sandbox should forbid; 0 means that it worked. */
static int escape(const char *what)
{
	const char *arg = strchr(what, ':');
	long rv = -1;
	errno = EINVAL;
	if (!arg++)
		return errno;
	if (!strncmp(what, "write:", 6))
		rv = open(arg, O_WRONLY | O_CREAT, 0600);
	else if (!strncmp(what, "read:", 5))
		rv = open(arg, O_RDONLY);
	else if (!strncmp(what, "ptrace:", 7))
		rv = ptrace(PTRACE_SEIZE, atoi(arg), 0, 0);
	else if (!strncmp(what, "signal:", 7))
		rv = kill(atoi(arg), 0);
	else if (!strncmp(what, "inet:", 5))
		rv = socket(AF_INET, SOCK_DGRAM, 0);
	else if (!strncmp(what, "keyring:", 8))
		rv = syscall(SYS_keyctl, 0, -4, 0); /* the user keyring's number */
	return rv < 0 ? errno : 0;
}

static void record(const char *what, int result)
{
	const char *path = getenv("SHIM_TRIED");
	FILE *f = path ? fopen(path, "a") : NULL;
	if (f) {
		fprintf(f, "%s %d\n", what, result);
		fclose(f);
	}
}

/* misbehave does what is common to all functions; 1 means "return *rv". */
static int misbehave(const char *action, const char *arg, ul *rv)
{
	char byte;
	int fd;
	if (!strcmp(action, "once") || !strcmp(action, "always")) {
		*rv = strtoul(arg, NULL, 16);
		return 1;
	}
	if (!strcmp(action, "crash")) {
		signal(SIGABRT, SIG_DFL); /* not Go's: this would write a core dump */
		abort();
	}
	if (!strcmp(action, "try"))
		record(arg, escape(arg));
	if (!strcmp(action, "hang"))
		for (;;)
			pause();
	if (!strcmp(action, "fifo") && (fd = open(arg, O_RDONLY)) >= 0) {
		while (read(fd, &byte, 1) > 0)
			;
		close(fd);
	}
	return 0;
}

static ul shim_get_token_info(ul slot, void *info)
{
	char action[16], arg[256];
	ul rv = ((call1)real->fn[GET_TOKEN_INFO])(slot, info);
	if (fault("C_GetTokenInfo", action, arg)) {
		if (!strcmp(action, "flags"))
			*(ul *)((char *)info + FLAGS_OFFSET) |= strtoul(arg, NULL, 16);
		else
			misbehave(action, arg, &rv);
	}
	return rv;
}

static int sessions, signing;

static ul shim_open_session(ul slot, ul flags, void *app, void *notify, ul *session)
{
	char action[16], arg[256];
	int limit = fault("C_OpenSession", action, arg);
	ul rv;
	if (limit && strcmp(action, "limit") != 0 && misbehave(action, arg, &rv))
		return rv;
	if (__sync_add_and_fetch(&sessions, 1) > (limit ? atoi(arg) : 1 << 30)) {
		__sync_sub_and_fetch(&sessions, 1);
		return 0xb1; /* CKR_SESSION_COUNT */
	}
	return ((open_fn)real->fn[OPEN_SESSION])(slot, flags, app, notify, session);
}

static ul shim_close_session(ul session)
{
	__sync_sub_and_fetch(&sessions, 1);
	return ((close_fn)real->fn[CLOSE_SESSION])(session);
}

static ul shim_login(ul session, ul user, void *pin, ul len)
{
	char action[16], arg[256];
	const char *count = getenv("SHIM_LOGINS");
	int fd;
	ul rv;
	if (count && (fd = open(count, O_WRONLY | O_CREAT | O_APPEND, 0600)) >= 0) {
		if (write(fd, "L", 1) != 1)
			abort();
		close(fd);
	}
	if (fault("C_Login", action, arg) && misbehave(action, arg, &rv))
		return rv;
	if (!pin && getenv("SHIM_PAD")) {
		pin = getenv("SHIM_PAD");
		len = strlen(pin);
	}
	return ((login_fn)real->fn[LOGIN])(session, user, pin, len);
}

static ul shim_sign_init(ul session, void *mechanism, ul key)
{
	char action[16], arg[256];
	ul rv;
	if (fault("C_SignInit", action, arg) && misbehave(action, arg, &rv))
		return rv;
	return ((call3)real->fn[SIGN_INIT])(session, mechanism, key);
}

static ul shim_sign(ul session, void *data, ul len, unsigned char *sig, ul *siglen)
{
	char action[16], arg[256];
	int flip = 0;
	ul rv;
	if (sig && fault("C_Sign", action, arg)) {
		if (misbehave(action, arg, &rv))
			return rv; /* the operation stays active, as on a real failure */
		if (!strcmp(action, "gather")) {
			int all = atoi(arg);
			__sync_add_and_fetch(&signing, 1);
			while (__sync_fetch_and_add(&signing, 0) < all)
				usleep(100);
		}
		flip = !strcmp(action, "flip");
	}
	rv = ((sign_fn)real->fn[SIGN])(session, data, len, sig, siglen);
	if (rv == 0 && flip)
		sig[*siglen / 2 + 3] ^= 0x10;
	return rv;
}

ul C_GetFunctionList(void **out)
{
	const char *path = getenv("SHIM_MODULE");
	void *lib = path ? dlopen(path, RTLD_NOW) : NULL;
	list_fn get = lib ? (list_fn)dlsym(lib, "C_GetFunctionList") : NULL;
	if (!get || get((void **)&real) != 0)
		return 5; /* CKR_GENERAL_ERROR */
	shim = *real;
	shim.fn[GET_FUNCTION_LIST] = (void *)C_GetFunctionList;
	shim.fn[GET_TOKEN_INFO] = (void *)shim_get_token_info;
	shim.fn[OPEN_SESSION] = (void *)shim_open_session;
	shim.fn[CLOSE_SESSION] = (void *)shim_close_session;
	shim.fn[LOGIN] = (void *)shim_login;
	shim.fn[SIGN_INIT] = (void *)shim_sign_init;
	shim.fn[SIGN] = (void *)shim_sign;
	*out = &shim;
	return 0;
}
