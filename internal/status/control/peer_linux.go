package control

import "golang.org/x/sys/unix"

// peerUser returns the user of the process at the other end of a unix socket. ok is false where the
// system doesn't tell.
func peerUser(fd uintptr) (user int, ok bool, err error) {
	cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, false, err
	}
	return int(cred.Uid), true, nil
}
