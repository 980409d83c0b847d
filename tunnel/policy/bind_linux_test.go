//go:build amd64 || arm64

package policy

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestBindWithoutIPv6: where the kernel has no IPv6, all addresses are those of IPv4, for TCP and
// UDP alike. A process that may not make a socket of IPv6 takes the kernel for one of these.
func TestBindWithoutIPv6(t *testing.T) {
	const variable = "CULVERT_TEST_WITHOUT_IPV6"
	if os.Getenv(variable) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBindWithoutIPv6$")
		child.Env = append(os.Environ(), variable+"=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	forbidIPv6(t)
	bind, err := ParseBind("tcp:*:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := bind.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := bind.ListenUDP()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, addr := range []string{ln.Addr().String(), conn.LocalAddr().String()} {
		if got := netip.MustParseAddrPort(addr); got.Addr() != netip.IPv4Unspecified() {
			t.Errorf("bound to %s", got)
		}
	}
}

// forbidIPv6 makes the process fail to make sockets of IPv6, as if the kernel had none.
func forbidIPv6(t *testing.T) {
	t.Helper()
	const number, firstArgument = 0, 16 // in struct seccomp_data
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	skipUnless := func(value uint32, skipped uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skipped}
	}
	result := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	filter := []unix.SockFilter{
		load(number), skipUnless(unix.SYS_SOCKET, 3),
		load(firstArgument), skipUnless(unix.AF_INET6, 1),
		result(unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)),
		result(unix.SECCOMP_RET_ALLOW),
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // the first call is for the thread, and the second needs it there
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		t.Fatal(errno)
	}
}
