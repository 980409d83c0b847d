// Package e2e tests culvert from the outside: the built program, as users run it, with real
// programs at both ends. It contains only tests.
//
// The tests start culvert with a directory of its own for its files, read the ports that it has
// bound from --print-ready, and connect curl, git, OpenSSH, headless Chromium and the reference
// implementation on Node through it. If the tests run with the race detector, so does the culvert
// that they start, and a race it detects fails the test.
//
// They need root, for network namespaces and sshd, and the programs that `make test-deps` installs.
// A missing program fails the tests with its name; nothing is skipped. All traffic stays on this
// machine: on loopback, or between it and a namespace that the test creates and removes.
//
// Where to find what: main_test.go builds the program; process_test.go starts and stops processes;
// culvert_test.go starts remotes and locals; host_test.go makes a host in a namespace; web_test.go
// is the web server at the far end; route_test.go has the routes through a tunnel and through
// comparable programs; listeners_test.go has curl's flags for each proxy protocol; a bad link
// between two hosts comes from culvert/internal/testnet/link. Every other file covers one theme.
package e2e
