// Holds one thing that cannot be restored in this version, says which descriptor it is (or -1), and runs on unharmed.
#include "scenario.h"
#include "ring.h"
#include <arpa/inet.h>
#include <linux/aio_abi.h>
#include <linux/perf_event.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <pty.h>
#include <termios.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
static long unread;                     // of a terminal, whose slave this is
static int slave = -1;
static pid_t holder;                    // who is named; 0: the main process
static void *unsharing_thread(void *v) { scenario_touch(unshare((int)(long)v) ? "forbidden" : "born"); scenario_await("go"); return v; }
static void *parent_thread(void *x) {
    holder = must(fork());
    if (!holder) { prctl(PR_SET_PDEATHSIG, SIGTERM); scenario_touch("born"); scenario_await("go"); _exit(0); }
    scenario_await("go");
    waitpid(holder, NULL, 0);
    return NULL;
}
static int hold_datagrams(const char *kind) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int s = must(socket(AF_INET, SOCK_DGRAM, 0)), p[2];
    if (!strcmp(kind, "udp-error")) {       // nobody is where it was sent to
        socklen_t size = sizeof to;
        must(bind(s, (void *)&to, size)); must(getsockname(s, (void *)&to, &size)); close(s);
        s = must(socket(AF_INET, SOCK_DGRAM, 0)); must(connect(s, (void *)&to, size)); must(send(s, "?", 1, 0)); usleep(50000);
        return s;
    }
    if (!strcmp(kind, "udp-source")) {
        struct ip_mreq_source group = { { inet_addr("239.1.2.3") }, { inet_addr("127.0.0.1") }, { inet_addr("127.0.0.1") } };
        return setsockopt(s, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &group, sizeof group) ? -1 : s;
    }
    close(s);
    if (!strcmp(kind, "unix-left")) {       // packets unread at both ends of what one end has left
        must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p)); must(send(p[0], "a", 1, 0)); must(send(p[1], "b", 1, 0)); close(p[1]);
        return p[0];
    }
    if (!strcmp(kind, "unix-sender")) {     // a socketpair's: neither has a name
        must(socketpair(AF_UNIX, SOCK_DGRAM, 0, p)); must(send(p[1], "b", 1, 0)); close(p[1]);
        return p[0];
    }
    s = must(socket(AF_NETLINK, SOCK_RAW, 0));      // netlink-answer: to a question after all links (RTM_GETLINK, a dump)
    struct { uint32_t size; uint16_t type, flags; uint32_t sequence, port; uint8_t family, pad[15]; } question = { 32, 18, 0x301, 1, 0, 0, { 0 } };
    must(send(s, &question, sizeof question, 0)); usleep(50000);
    return s;
}
static int hold_ring(const char *kind) {
    static struct ring r;
    int sqpoll = !strcmp(kind, "sqpoll"), pair[2];
    if (!strcmp(kind, "unseen")) {      // made by a system call of its own
        long fd; register long none __asm__("r10") = 0; static struct io_uring_params p;
        __asm__ volatile("syscall" : "=a"(fd) : "a"(425), "D"(4), "S"(&p), "d"(0), "r"(none) : "rcx", "r11", "memory");
        return (int)fd;
    }
    if (ring_try(&r, 8, sqpoll ? IORING_SETUP_SQPOLL : 0, 0)) return -2;
    struct io_uring_sqe *e = NULL;
    if (!strcmp(kind, "flight")) {      // a time-out that nobody sees
        static struct __kernel_timespec hour = { 3600, 0 };
        e = ring_entry(&r); e->opcode = IORING_OP_TIMEOUT; e->addr = (uintptr_t)&hour; e->len = 1;
    }
    if (!strcmp(kind, "poll") || !strcmp(kind, "multishot")) {
        must(pipe(pair));
        e = ring_entry(&r); e->opcode = IORING_OP_POLL_ADD; e->fd = pair[0]; e->poll32_events = 1; e->len = !strcmp(kind, "multishot") ? IORING_POLL_ADD_MULTI : 0;
        if (e->len) { same(1, ring_enter(&r, 1, 0)); must(write(pair[1], "x", 1)); ring_enter(&r, 0, 1); e = NULL; }
    }
    if (!strcmp(kind, "buffers")) { static char room[4096]; struct iovec v = { room, sizeof room }; must(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &v, 1)); }
    if (!strcmp(kind, "provided")) {
        static char room[4096];
        e = ring_entry(&r); e->opcode = IORING_OP_PROVIDE_BUFFERS; e->fd = 4; e->addr = (uintptr_t)room; e->len = 1024; e->buf_group = 54321;
    }
    if (!strcmp(kind, "files")) { int fd = must(open("/dev/null", O_RDWR)); must(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_FILES, &fd, 1)); }
    if (!strcmp(kind, "personality")) must(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_PERSONALITY, NULL, 0));
    if (!strcmp(kind, "workers")) { unsigned most[2] = { 1, 1 }; must(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_IOWQ_MAX_WORKERS, most, 2)); }
    if (!strcmp(kind, "index")) { struct { unsigned offset, resv; uint64_t data; } update = { -1u, 0, r.fd }; must(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_RING_FDS, &update, 1)); update.offset = 5; must(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_RING_FDS, &update, 1)); }
    if (!strcmp(kind, "event")) { int event = must(eventfd(0, 0)); must(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_EVENTFD, &event, 1)); close(event); }
    if (!strcmp(kind, "shared") && !must(fork())) { scenario_await("go"); _exit(0); }
    if (e) same(1, ring_enter(&r, 1, 0));
    if (!strcmp(kind, "provided")) { ring_enter(&r, 0, 1); ring_expect(&r, 0, 0); }
    if (!strcmp(kind, "closed")) { close(r.fd); errno = 0; return -1; }
    return r.fd;
}

// Descriptors of sockets that are tied to something which cannot be read: TLS in the kernel, an eBPF program.
static int hold_tied(const char *kind) {
    if (!strcmp(kind, "ulp")) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }; socklen_t size = sizeof at;
        int l = must(socket(AF_INET, SOCK_STREAM, 0)), c = must(socket(AF_INET, SOCK_STREAM, 0));
        must(bind(l, (void *)&at, size)); must(listen(l, 1)); must(getsockname(l, (void *)&at, &size)); must(connect(c, (void *)&at, size)); must(accept(l, NULL, NULL));
        return setsockopt(c, IPPROTO_TCP, 31, "tls", 3) ? -2 : c;
    }
    int s = must(socket(AF_INET, SOCK_DGRAM, 0)), load = 5, attach = 50;
    struct { uint8_t code, registers; int16_t offset; int32_t value; } program[2] = { { 0xb7, 0, 0, -1 }, { 0x95, 0, 0, 0 } };
    struct { uint32_t type, count; uint64_t instructions, license; char rest[96]; } a = { 1, 2, (uintptr_t)program, (uintptr_t)"GPL", { 0 } };
    int p = syscall(SYS_bpf, load, &a, sizeof a);
    if (p < 0) return -2;
    must(setsockopt(s, SOL_SOCKET, attach, &p, sizeof p));
    close(p);
    return s;
}
// A process that gave its user away and executed a program: a child, or one whose parent is gone.
static int hold_left(const char *kind) {
    int p[2], isOrphan = !strcmp(kind, "left-orphan"), executed = 0;
    if (getuid()) return -2;
    must(pipe2(p, O_CLOEXEC));
    pid_t child = must(fork());
    if (!child) {
        if (isOrphan) { if (must(fork())) _exit(0); setsid(); }
        pid_t self = getpid();
        must(write(p[1], &self, sizeof self));
        must(setgid(65534)); must(setuid(65534));
        execl("/bin/sleep", "sleep", "100", NULL);
        _exit(97);
    }
    must(read(p[0], &holder, sizeof holder));
    if (isOrphan) waitpid(child, NULL, 0);
    close(p[0]); close(p[1]);
    for (int i = 0; i < 2000 && !executed; i++) {
        char path[64], name[16] = "";
        snprintf(path, sizeof path, "/proc/%d/comm", holder);
        int fd = open(path, O_RDONLY);
        if (fd >= 0) { read(fd, name, 5); close(fd); }
        executed = !strcmp(name, "sleep");
        usleep(5000);
    }
    errno = 0;
    return -1;
}
// A one-shot entry has fired, for what is over; nothing says that there will be more.
static int hold_fired(const char *kind) {
    int epoll = must(epoll_create1(0)), fd;
    char events[512];
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }; socklen_t size = sizeof at;
    if (!strcmp(kind, "fired-inotify")) {
        must(mkdir(scenario_path("watched"), 0700));
        fd = must(inotify_init1(0)); must(inotify_add_watch(fd, scenario_path("watched"), IN_CREATE)); must(mkdir(scenario_path("watched/new"), 0700));
    } else {
        fd = must(socket(AF_INET, SOCK_STREAM, 0)); must(bind(fd, (void *)&at, size)); must(listen(fd, 1)); must(getsockname(fd, (void *)&at, &size));
        must(connect(must(socket(AF_INET, SOCK_STREAM, 0)), (void *)&at, size));
    }
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event) { .events = EPOLLIN | EPOLLONESHOT }));
    must(epoll_wait(epoll, &(struct epoll_event) { 0 }, 1, 1000));
    if (!strcmp(kind, "fired-inotify")) must(read(fd, events, sizeof events)); else must(accept(fd, NULL, NULL));
    return epoll;
}
static timer_t expired[3];
static int sleep_on(void *unused) { (void)unused; for (;;) pause(); }
static void give(int way, int fd) {
    char room[CMSG_SPACE(4)] = { 0 };
    struct iovec v = { "x", 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(4);
    memcpy(CMSG_DATA(c), &fd, 4);
    must(sendmsg(way, &m, 0));
}
static int take(int way) {
    char room[CMSG_SPACE(4)], b;
    struct iovec v = { &b, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    int fd = -1;
    must(recvmsg(way, &m, 0));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), 4);
    return fd;
}
static char dispatch_selector[1];       // 0: let through
static void *dispatching_thread(void *unused) {
    if (syscall(SYS_prctl, 59, 1, 0, 0, dispatch_selector)) scenario_touch("unsupported");
    scenario_touch("dispatching");
    scenario_await("go");
    return unused;
}
static int hold(const char *kind) {
    int p[2], q;
    if (!strcmp(kind, "ulp") || !strcmp(kind, "bpf-filter")) return hold_tied(kind);
    if (!strncmp(kind, "left-", 5)) return hold_left(kind);
    if (!strncmp(kind, "fired-", 6)) return hold_fired(kind);
    if (!strcmp(kind, "given-socket")) { int s = must(dup(0)); close(0); must(open("/dev/null", O_RDONLY)); return s; }
    if (!strcmp(kind, "shm-huge")) {
        int id = shmget(IPC_PRIVATE, 2 << 20, IPC_CREAT | SHM_HUGETLB | SHM_NORESERVE | 0600);
        if (id < 0) return -2;
        void *at = shmat(id, NULL, 0);
        shmctl(id, IPC_RMID, NULL);
        if (at == (void *)-1) return -2;
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "epoll-mounts")) { int fd = must(epoll_create1(0)); q = must(open("/proc/self/mounts", O_RDONLY)); must(epoll_ctl(fd, EPOLL_CTL_ADD, q, &(struct epoll_event) { .events = EPOLLPRI })); return q; }
    if (!strncmp(kind, "udp-", 4) || !strncmp(kind, "unix-", 5) || !strcmp(kind, "netlink-answer")) return hold_datagrams(kind);
    if (!strcmp(kind, "raw")) return socket(AF_INET, SOCK_RAW, 253);
    if (!strcmp(kind, "packet")) return socket(AF_PACKET, SOCK_DGRAM, 0);
    if (!strcmp(kind, "vsock")) return socket(AF_VSOCK, SOCK_STREAM, 0);
    if (!strcmp(kind, "mptcp")) return socket(AF_INET, SOCK_STREAM, 262);
    if (!strcmp(kind, "netlink")) return socket(AF_NETLINK, SOCK_RAW, 16);
    if (!strcmp(kind, "inotify-lost")) { int fd = must(inotify_init1(0)), gone = must(open(scenario_path("gone"), O_CREAT | O_WRONLY, 0600)); must(inotify_add_watch(fd, scenario_path("gone"), IN_MODIFY)); must(unlink(scenario_path("gone"))); (void)gone; return fd; }
    if (!strcmp(kind, "fired")) {           // a one-shot entry for a socket that takes no more and has nothing to read
        int fd = must(epoll_create1(0)); char b[4096] = { 0 };
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p));
        must(epoll_ctl(fd, EPOLL_CTL_ADD, p[0], &(struct epoll_event) { .events = EPOLLIN | EPOLLOUT | EPOLLONESHOT }));
        must(epoll_wait(fd, &(struct epoll_event) { 0 }, 1, 1000));
        while (write(p[0], b, sizeof b) > 0) {}
        return fd;
    }
    if (!strcmp(kind, "epoll-signalfd") || !strcmp(kind, "epoll-shared")) {  // the process that added it has gone on without the instance
        int fd = must(epoll_create1(0)); sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); q = must(signalfd(-1, &s, 0));
        must(epoll_ctl(fd, EPOLL_CTL_ADD, q, &(struct epoll_event) { .events = EPOLLIN }));
        if (!strcmp(kind, "epoll-shared")) { if (!fork()) { scenario_await("go"); _exit(0); } return fd; }
        if (!fork()) { close(fd); scenario_await("go"); _exit(0); }
        close(q);
        return fd;
    }
    if (!strncmp(kind, "pending-", 8) || !strcmp(kind, "urgent")) {       // sent on a connection before anybody has accepted it; urgent data that is not read
        struct sockaddr_un path = { .sun_family = AF_UNIX };
        struct sockaddr_in local = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int unix_domain = !strcmp(kind, "pending-unix"), l = must(socket(unix_domain ? AF_UNIX : AF_INET, SOCK_STREAM, 0)), c = must(socket(unix_domain ? AF_UNIX : AF_INET, SOCK_STREAM, 0));
        snprintf(path.sun_path, sizeof path.sun_path, "%s", scenario_path("s"));
        struct sockaddr *to = unix_domain ? (void *)&path : (void *)&local; socklen_t size = unix_domain ? sizeof path : sizeof local;
        must(bind(l, to, size)); must(listen(l, 4)); must(getsockname(l, to, &size)); must(connect(c, to, size));
        if (kind[0] == 'u') { int s = must(accept(l, NULL, NULL)); must(send(c, "!", 1, MSG_OOB)); usleep(50000); return s; }
        must(write(c, "early", 5)); usleep(50000);
        return unix_domain ? l : c;
    }
    if (!strcmp(kind, "pidfd-sent")) {
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, p)); q = must(syscall(SYS_pidfd_open, getpid(), 0));
        give(p[0], q);
        return q;
    }
    if (!strcmp(kind, "pidfd-outside")) return syscall(SYS_pidfd_open, getppid(), 0);
    if (!strcmp(kind, "fanotify")) return syscall(300, 0x200, O_RDONLY);     // FAN_REPORT_FID: permitted to everybody
    if (!strcmp(kind, "packets")) { must(pipe2(p, O_DIRECT)); must(write(p[1], "one", 3)); return p[0]; }
    if (!strcmp(kind, "pty-async")) { must(openpty(&p[0], &q, NULL, NULL, NULL)); signal(SIGIO, SIG_IGN); must(fcntl(q, F_SETFL, O_RDWR | O_ASYNC)); return q; }
    if (!strcmp(kind, "pty-unreached")) { p[0] = must(posix_openpt(O_RDWR | O_NOCTTY)); must(grantpt(p[0])); must(write(p[0], "echo", 4)); usleep(50000); return p[0]; }
    if (!strcmp(kind, "pty-echoes")) {      // full, and an echo waits: without OPOST nobody knows for how much
        struct termios t; char b[1000];
        must(openpty(&p[0], &q, NULL, NULL, NULL)); must(tcgetattr(q, &t)); t.c_oflag = 0; t.c_lflag = ECHO; must(tcsetattr(q, TCSANOW, &t));
        must(fcntl(q, F_SETFL, O_RDWR | O_NONBLOCK)); must(fcntl(p[0], F_SETFL, O_RDWR | O_NONBLOCK));
        memset(b, 'o', sizeof b);
        for (int idle = 0; idle < 200; idle++) { long n = write(q, b, sizeof b); if (n > 0) { unread += n; idle = 0; } else usleep(1000); }
        must(write(p[0], "typed", 5)); unread += 5; usleep(50000);
        slave = q;
        return p[0];
    }
    if (!strcmp(kind, "serial")) { q = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_NONBLOCK); return q < 0 ? -2 : q; }
    if (!strcmp(kind, "namespace")) {          // one that the tree has left
        int fd = open("/proc/self/ns/uts", O_RDONLY);
        if (unshare(CLONE_NEWUTS) && unshare(CLONE_NEWUSER | CLONE_NEWUTS)) return -2;
        return fd;
    }
    if (!strcmp(kind, "userfaultfd")) return syscall(323, 1);
    if (!strcmp(kind, "perf")) { struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK }; return syscall(SYS_perf_event_open, &a, 0, -1, -1, 0); }
    if (!strncmp(kind, "ring-", 5)) return hold_ring(kind + 5);
    if (!strcmp(kind, "mqueue-thread")) {
        char name[64]; snprintf(name, sizeof name, "/ckpt-scenario-%d", getpid());
        struct mq_attr a = { .mq_maxmsg = 2, .mq_msgsize = 8 };
        int fd = must(mq_open(name, O_RDWR | O_CREAT, 0600, &a)); mq_unlink(name);
        struct sigevent e = { .sigev_notify = 2, .sigev_value.sival_ptr = name };
        int s = must(socket(AF_NETLINK, SOCK_RAW, 0));
        e.sigev_signo = s;               // as glibc does it: a cookie comes through a netlink socket
        must(syscall(SYS_mq_notify, fd, &e));
        return fd;
    }
    if (!strcmp(kind, "flock")) { int fd = must(open(scenario_path("locked"), O_RDWR | O_CREAT, 0600)); must(flock(fd, LOCK_EX)); return fd; }
    if (!strcmp(kind, "posix-lock") || !strcmp(kind, "ofd-lock")) {
        int fd = must(open(scenario_path("locked"), O_RDWR | O_CREAT, 0600));
        struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };
        must(fcntl(fd, kind[0] == 'p' ? F_SETLK : F_OFD_SETLK, &l));
        return fd;
    }
    if (!strcmp(kind, "lease-breaking")) {
        int fd = must(open(scenario_path("leased"), O_RDONLY | O_CREAT, 0600));
        signal(SIGIO, SIG_IGN);
        must(fcntl(fd, F_SETLEASE, F_RDLCK));
        check(open(scenario_path("leased"), O_WRONLY | O_NONBLOCK) < 0);
        return fd;
    }
    if (!strcmp(kind, "far-link")) {
        char name[512];
        int fd = must(open(scenario_path("near"), O_RDWR | O_CREAT, 0600));
        must(mkdir(scenario_path("a"), 0700)); must(mkdir(scenario_path("a/b"), 0700)); must(mkdir(scenario_path("a/b/c"), 0700));
        snprintf(name, sizeof name, "%s", scenario_path("a/b/c/far"));
        must(link(scenario_path("near"), name)); must(unlink(scenario_path("near")));
        return fd;
    }
    if (!strcmp(kind, "aio-flight")) {      // a poll that nothing answers
        unsigned long context = 0;
        if (syscall(SYS_io_setup, 4, &context) < 0) return -2;
        static struct iocb request = { .aio_lio_opcode = 5, .aio_buf = 1 }, *requests[] = { &request };
        must(pipe(p));
        request.aio_fildes = p[0];
        must(syscall(SYS_io_submit, context, 1, requests));
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "aio-unseen")) {
        static unsigned long context; long r;
        __asm__ volatile("syscall" : "=a"(r) : "a"(SYS_io_setup), "D"(4), "S"(&context) : "rcx", "r11", "memory");
        errno = 0;
        return r ? -2 : -1;
    }
    if (!strncmp(kind, "secret", 6)) {
        int fd = syscall(447, 0);           // memfd_secret
        if (fd < 0) return -2;
        must(ftruncate(fd, 4096));
        *(char *)must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) = 1;
        if (strcmp(kind, "secret")) { close(fd); errno = 0; return -1; }
        return fd;
    }
    if (!strcmp(kind, "pids-socket") || !strcmp(kind, "pids-carried")) {        // made inside of a pid namespace, and held outside of it, or on its way there
        int way[2], pair[2], held = !strcmp(kind, "pids-socket");
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, way));
        if (unshare(CLONE_NEWPID)) return -2;
        if (!must(fork())) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
            give(way[1], pair[1]);
            scenario_touch("joined");
            for (;;) pause();
        }
        while (!scenario_exists("joined")) usleep(1000);
        return held ? take(way[0]) : way[0];
    }
    if (!strcmp(kind, "ns-elsewhere")) {            // a socket of a network in which nobody is any more, in a tree of several networks
        int way[2];
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, way));
        pid_t part = must(fork());
        if (!part) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (!unshare(CLONE_NEWNET)) scenario_touch("joined"); else scenario_touch("unsupported");
            for (;;) pause();
        }
        pid_t gone = must(fork());
        if (!gone) { if (!unshare(CLONE_NEWNET)) give(way[1], must(socket(AF_INET, SOCK_DGRAM, 0))); else scenario_touch("unsupported"); _exit(0); }
        same(gone, waitpid(gone, NULL, 0));
        while (!scenario_exists("joined") && !scenario_exists("unsupported")) usleep(1000);
        return scenario_exists("unsupported") ? -2 : take(way[0]);
    }
    if (!strcmp(kind, "ns-mqueue")) {               // a message queue of an ipc namespace in which nobody is any more
        int way[2];
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, way)); pid_t gone = must(fork());
        if (!gone) { if (!unshare(CLONE_NEWIPC)) give(way[1], must(mq_open("/ckpt-inside", O_RDWR | O_CREAT | O_EXCL, 0600, NULL))); else scenario_touch("unsupported"); _exit(0); }
        same(gone, waitpid(gone, NULL, 0));
        return scenario_exists("unsupported") ? -2 : take(way[0]);
    }
    if (!strcmp(kind, "ns-segment")) {              // attached by a process that has gone to another ipc namespace
        int id = must(shmget(IPC_PRIVATE, 4096, 0600));
        must(shmat(id, NULL, 0)); must(shmctl(id, IPC_RMID, NULL));
        pid_t child = must(fork());
        if (!child) { scenario_touch(unshare(CLONE_NEWIPC) ? "unsupported" : "joined"); scenario_await("go"); _exit(0); }
        while (!scenario_exists("joined") && !scenario_exists("unsupported")) usleep(1000);
        if (scenario_exists("unsupported")) return -2;
        holder = child;
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "ns-creator")) {              // in an ipc namespace, and a pid namespace that its maker is outside of
        int told[2]; must(pipe(told));
        if (!must(fork())) {
            if (unshare(CLONE_NEWIPC | CLONE_NEWPID)) _exit(0);
            must(shmget(IPC_PRIVATE, 4096, 0600));
            pid_t first = must(fork());
            if (!first) { scenario_await("go"); _exit(0); }
            must(write(told[1], &first, sizeof first));
            _exit(waitpid(first, NULL, 0) != first);
        }
        close(told[1]);
        int told_us = read(told[0], &holder, sizeof holder);
        close(told[0]); errno = 0;
        return told_us > 0 ? -1 : -2;
    }
    if (!strcmp(kind, "segments")) {
        struct { unsigned entry, base, limit, flags; } own = { 0, 0, 0xfffff, 0x51 };
        if (syscall(SYS_modify_ldt, 1, &own, sizeof own)) return -2;
        errno = 0;
        return -1;
    }
    if (!strncmp(kind, "landlock", 8)) {            // files may not be removed any more; also in a child, and in what it executes
        struct { uint64_t files; } rules = { 1 << 5 };
        int set = syscall(444, &rules, sizeof rules, 0);
        if (set < 0) return -2;
        if (strcmp(kind, "landlock")) {
            pid_t child = must(fork());
            if (!child) {
                must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
                must(syscall(446, set, 0));
                execlp("sh", "sh", "-c", "(: >joined; while [ ! -e go ]; do sleep 0.1; done); true", NULL);
            }
            while (!scenario_exists("joined")) usleep(1000);
            close(set);
            holder = child;
        } else {
            must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
            must(syscall(446, set, 0));
            close(set);
        }
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "dispatch")) {
        same(-1, syscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, 1000, 0, 0, NULL));      // as libc's own says it
        if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, dispatch_selector)) return -2;
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "dispatch-outside")) {          // noted outside of a pid namespace, whose tasks have notes of their own
        if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, dispatch_selector) || unshare(CLONE_NEWPID)) return -2;
        pid_t child = must(fork());
        if (!child) {
            must(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, dispatch_selector));
            must(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0));
            _exit(0);
        }
        same(child, waitpid(child, NULL, 0));
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "dispatch-thread")) {
        pthread_t t;
        must0(pthread_create(&t, NULL, dispatching_thread, NULL));
        while (!scenario_exists("dispatching")) usleep(1000);
        errno = 0;
        return scenario_exists("unsupported") ? -2 : -1;
    }
    if (!strcmp(kind, "seccomp")) {
        struct { unsigned short code; unsigned char jt, jf; unsigned k; } allow = { 6, 0, 0, 0x7fff0000 };
        struct { unsigned short length; void *filter; } program = { 1, &allow };
        must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        must(prctl(PR_SET_SECCOMP, 2, &program));
        return -1;
    }
    if (!strcmp(kind, "death-of-thread")) {
        pthread_t t;
        must0(pthread_create(&t, NULL, parent_thread, NULL));
        while (!scenario_exists("born")) usleep(1000);
        errno = 0;
        return -1;
    }
    if (!strncmp(kind, "unshare-", 8)) {
        pthread_t t;
        must0(pthread_create(&t, NULL, unsharing_thread, !strcmp(kind, "unshare-files") ? (void *)CLONE_FILES : (void *)CLONE_FS));
        while (!scenario_exists("born")) usleep(1000);
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "signals-full")) {
        // Three timers have run out, and nothing more may be queued.
        sigset_t set;
        sigemptyset(&set); sigaddset(&set, SIGRTMIN + 3);
        sigprocmask(SIG_BLOCK, &set, NULL);
        for (int i = 0; i < 3; i++) {
            struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3 };
            struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
            must(timer_create(CLOCK_MONOTONIC, &e, &expired[i])); must(timer_settime(expired[i], 0, &soon, NULL));
        }
        usleep(100000);
        struct rlimit l;
        must(getrlimit(RLIMIT_SIGPENDING, &l));
        l.rlim_cur = 0;
        must(setrlimit(RLIMIT_SIGPENDING, &l));
        errno = 0;
        return -1;
    }
    if (!strncmp(kind, "clone-", 6)) {
        static char stack[16384] __attribute__((aligned(16)));
        holder = must(clone(sleep_on, stack + sizeof stack, SIGCHLD | (!strcmp(kind, "clone-memory") ? CLONE_VM : !strcmp(kind, "clone-files") ? CLONE_FILES : CLONE_FS), NULL));
        errno = 0;
        return -1;
    }
    if (!strncmp(kind, "ns-", 3)) {
        if (unshare(!strcmp(kind, "ns-mount") ? CLONE_NEWNS : CLONE_NEWNET)) return -2;
        if (!strcmp(kind, "ns-mount")) {        // a file system of its own with something in it
            must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
            must(mkdir(scenario_path("mounted"), 0755));
            must(mount("none", scenario_path("mounted"), "tmpfs", 0, NULL));
            int large = must(open(scenario_path("mounted/file"), O_CREAT | O_WRONLY, 0644));
            must0(posix_fallocate(large, 0, 65 << 20));
            close(large);
        }
        if (!strcmp(kind, "ns-address")) {
            int s = must(socket(AF_INET, SOCK_DGRAM, 0));
            struct ifreq r = { .ifr_name = "lo:1" };
            struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(0x0a010203) } };
            memcpy(&r.ifr_addr, &a, sizeof a);
            must(ioctl(s, SIOCSIFADDR, &r));
            close(s);
        }
        const char *commands[][2] = {
            { "ns-device", "ip link add bridged type bridge" }, { "ns-rule", "ip rule add from 10.1.2.3 lookup 7" },
            { "ns-neighbour", "ip link add one type veth peer name two && ip neigh add 10.1.2.3 lladdr 02:00:00:00:00:01 nud permanent dev one" },
            { "ns-alias", "ip link add one type veth peer name two && ip link set one alias outward" },
            { "ns-queue", "ip link add one type veth peer name two && ip link set one up && tc qdisc add dev one root pfifo" },
            { "ns-route", "ip link add one type veth peer name two && ip link set one up && ip -6 route add fd08::/64 dev one expires 1000" },
            { "ns-nexthop", "ip link add one type veth peer name two && ip link set one up && ip link set two up && ip nexthop add id 7 dev one && ip route add 10.9.0.0/16 nhid 7" },
            { "ns-expires", "ip link add one type veth peer name two && ip link set one up && ip -6 addr add fd07::1/64 dev one valid_lft 1000 preferred_lft 1000" },
        };
        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) if (!strcmp(kind, commands[i][0]) && system(commands[i][1])) return -2;
        if (!strcmp(kind, "ns-veth")) {         // its other end is where our parent is
            char command[128];
            snprintf(command, sizeof command, "ip link add inside type veth peer name ck%d netns %d", getpid(), getppid());
            if (system(command)) return -2;
        }
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "users-time")) {         // children's clocks, that belong to a user namespace
        if ((holder = must(fork()))) { while (!scenario_exists("joined")) usleep(1000); errno = 0; return -1; }
        must(unshare(CLONE_NEWUSER | 0x80));
        scenario_touch("joined");
        scenario_await("go");
        _exit(0);
    }
    if (!strcmp(kind, "pids-thread") || !strcmp(kind, "times-thread") || !strcmp(kind, "ipc-thread")) {
        pthread_t t;
        must0(pthread_create(&t, NULL, unsharing_thread, (void *)(long)(*kind == 'p' ? CLONE_NEWPID : *kind == 'i' ? CLONE_NEWIPC : 0x80)));
        while (!scenario_exists("born") && !scenario_exists("forbidden")) usleep(1000);
        if (scenario_exists("forbidden")) { errno = EPERM; return -2; }
        errno = 0;
        return -1;
    }
    if (!strncmp(kind, "keyring-", 8)) {
        int join = 1, get = 0, thread = -1, process = -2, session = -3;
        if (!strcmp(kind, "keyring-thread")) { if (syscall(SYS_keyctl, get, thread, 1) < 0) return -2; }
        if (!strcmp(kind, "keyring-process")) { if (syscall(SYS_keyctl, get, process, 1) < 0) return -2; }
        if (!strcmp(kind, "keyring-keys")) {
            if (syscall(SYS_keyctl, join, NULL) < 0) return -2;
            must(syscall(SYS_add_key, "user", "of-the-session", "secret", 6, session));
        }
        if (!strcmp(kind, "keyring-joined")) {
            pid_t child = must(fork());
            if (!child) {
                if (syscall(SYS_keyctl, join, NULL) < 0) _exit(4);
                scenario_touch("joined");
                scenario_await("go");
                _exit(0);
            }
            while (!scenario_exists("joined")) { if (waitpid(child, NULL, WNOHANG) == child) return -2; usleep(1000); }
            holder = child;
        }
        errno = 0;
        return -1;
    }
    if (!strcmp(kind, "proc-outside")) return open("/proc/1/status", O_RDONLY);
    if (!strcmp(kind, "proc-shared")) { int fd = open("/proc/self/status", O_RDONLY); if (!fork()) { scenario_await("go"); _exit(0); } return fd; }
    if (!strcmp(kind, "block-device")) {
        DIR *d = opendir("/sys/class/block");
        for (struct dirent *e; d && (e = readdir(d)); ) {
            char path[300];
            snprintf(path, sizeof path, "/dev/%s", e->d_name);
            int fd = e->d_name[0] == '.' ? -1 : open(path, O_RDONLY);
            if (fd >= 0) { closedir(d); return fd; }
        }
        return -2;
    }
    return -2;
}
int main(int argc, char **argv) {
    (void)argc;
    int fd = hold(argv[1]);
    int e = errno;
    if (fd == -2 || (fd == -1 && e && strcmp(argv[1], "seccomp"))) {
        printf("unsupported %s\n", strerror(e));
        return 4;
    }
    char line[64];
    int out = must(open(scenario_path("held"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    write(out, line, snprintf(line, sizeof line, "%d %d", holder ? holder : getpid(), fd));
    close(out);
    scenario_wait();
    if (fd >= 0 && !holder) check(fcntl(fd, F_GETFD) >= 0);
    if (!strncmp(argv[1], "left-", 5) || !strncmp(argv[1], "clone-", 6)) { same(0, kill(holder, SIGKILL)); waitpid(holder, NULL, 0); }
    if (slave >= 0) {
        char b[4096];
        for (int idle = 0; idle < 100; idle++) { long n = read(fd, b, sizeof b); if (n > 0) { unread -= n; idle = 0; } else { write(slave, "", 0); usleep(1000); } }
        same(0, unread);
    }
    if (!strcmp(argv[1], "signals-full")) {
        sigset_t set;
        siginfo_t info;
        sigemptyset(&set); sigaddset(&set, SIGRTMIN + 3);
        for (int i = 0; i < 3; i++) { same(SIGRTMIN + 3, sigtimedwait(&set, &info, &(struct timespec) { 0 })); same(SI_TIMER, info.si_code); }
    }
    if (!strcmp(argv[1], "udp-error")) { same(-1, recv(fd, line, 1, MSG_DONTWAIT)); same(ECONNREFUSED, errno); }
    return scenario_end();
}
