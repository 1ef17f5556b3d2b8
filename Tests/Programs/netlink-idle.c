// An idle netlink socket keeps its number and its groups, and still answers.
#include "scenario.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
int main(void) {
    int fd = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), one = 1, group = 33;
    struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK }, before, after;
    must(bind(fd, (void *)&a, sizeof a));
    must(setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one));
    must(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group));
    int audit = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT));         // as dbus-daemon has it
    socklen_t n = sizeof before;
    must(getsockname(fd, (void *)&before, &n));
    scenario_wait();
    n = sizeof after;
    must(getsockname(fd, (void *)&after, &n));
    same(before.nl_pid, after.nl_pid);
    same(before.nl_groups, after.nl_groups);
    int family = 0;
    n = sizeof family;
    must(getsockopt(audit, SOL_SOCKET, SO_PROTOCOL, &family, &n));
    same(NETLINK_AUDIT, family);
    int value = 0, groups[8] = { 0 };
    n = sizeof value;
    must(getsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &value, &n));
    same(1, value);
    n = sizeof groups;
    must(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &n));
    same(1, groups[1] & 1);
    struct { struct nlmsghdr h; struct rtgenmsg g; } ask = { { sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { AF_UNSPEC } };
    must(send(fd, &ask, sizeof ask, 0));
    char answer[65536];
    check(recv(fd, answer, sizeof answer, 0) > 16);
    same(RTM_NEWLINK, ((struct nlmsghdr *)answer)->nlmsg_type);
    return scenario_end();
}
