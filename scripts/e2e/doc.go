// Package e2e tests culvert from the outside: the built program, run as people run it, between real
// programs. There is no code here but tests.
//
// The tests start culvert with a folder of its own for its files, read the ports that it bound from
// --print-ready, and put curl, git, OpenSSH, headless Chromium and the reference implementation on
// Node at its ends. When the tests run with the race detector, so does the culvert that they start,
// and a race that it finds fails the test.
//
// They need root, for network namespaces and sshd, and the programs that `make test-deps` installs.
// What is missing fails the tests with its name; nothing is skipped. All traffic stays on this
// machine: on loopback, or between it and a namespace that the test makes and removes.
//
// Where to find what: main_test.go builds the program; process_test.go starts and ends processes;
// culvert_test.go starts remotes and locals; host_test.go makes a host in a namespace; web_test.go
// is the web server at the far end; route_test.go has the ways through a tunnel and through peers;
// a bad link between two hosts comes from culvert/internal/testnet/link. Every other file is one
// theme.
package e2e
