// Package link emulates a wide-area link between two network namespaces of one machine, for tests:
// each namespace is a host of its own, and packets between the two are delayed, limited to the
// link's rate, and sometimes lost. It needs Linux, root and the ip program. The kernel's own
// emulator (netem) is not in every kernel; this one is an ordinary program.
//
// [New] makes the namespaces and a TUN device in each. What the kernel of one host sends into its
// device is an IP packet that can be read from the device's file. The packet is written to the
// other device when it is due:
//
//	host A - TUN - read, shape ... wait ... write - TUN - host B
//
// shape.go decides what happens to a packet and when, link.go moves the packets, host.go makes the
// namespaces and devices.
package link
