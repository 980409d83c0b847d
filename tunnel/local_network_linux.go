package tunnel

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// networkGroups are the kernel's notices (rtnetlink(7)) of links, addresses, routes and the rules
// that choose between tables of routes.
const networkGroups = unix.RTMGRP_LINK |
	unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE |
	unix.RTMGRP_IPV4_RULE | 1<<(unix.RTNLGRP_IPV6_RULE-1)

// notifyNetwork leaves a notice whenever the kernel gives one, until ctx is done. It reports
// whether the kernel does.
func notifyNetwork(ctx context.Context, notices chan<- struct{}) bool {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
		unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: networkGroups}
	if err := unix.Bind(fd, address); err != nil {
		unix.Close(fd)
		return false
	}
	socket := os.NewFile(uintptr(fd), "netlink") // non-blocking, so that Close ends a Read
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { socket.Close() })()
	notice := make([]byte, 4096) // the content is ignored: what matters is how things are now
	for {
		// ENOBUFS is the kernel's word that there were too many to keep.
		if _, err := socket.Read(notice); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return ctx.Err() != nil
		}
		notify(notices)
	}
}
