package tunnel

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watchNetwork calls Retry when an address or a route of this machine changes (rtnetlink(7)), until
// ctx is done or stop is called. It does nothing where the kernel sends no notices.
func (l *Local) watchNetwork(ctx context.Context) (stop func()) {
	fd, err := unix.Socket(
		unix.AF_NETLINK,
		unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
		unix.NETLINK_ROUTE,
	)
	if err != nil {
		return func() {}
	}
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
		unix.RTMGRP_IPV4_ROUTE
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}
	if err := unix.Bind(fd, address); err != nil {
		unix.Close(fd)
		return func() {}
	}
	socket := os.NewFile(uintptr(fd), "netlink") // non-blocking, so that Close ends a Read
	stopAfter := context.AfterFunc(ctx, func() { socket.Close() })
	var watching sync.WaitGroup
	watching.Go(func() {
		notice := make([]byte, 4096) // its content does not matter
		for {
			if _, err := socket.Read(notice); err != nil {
				return
			}
			l.Retry()
		}
	})
	return func() {
		stopAfter()
		socket.Close()
		watching.Wait()
	}
}
