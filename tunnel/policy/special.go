package policy

import (
	"net/netip"
	"slices"
)

// special is a range of addresses that is forbidden unless a rule allows it explicitly.
type special struct {
	prefix   netip.Prefix
	metadata bool // a cloud's service that gives the credentials of its machine to any client
}

// specials are the special ranges, wider ones before those within them. The addresses of cloud
// metadata are listed apart from the link-local range that some are in, so that a rule for that
// range doesn't allow them.
var specials = []special{
	{
		netip.MustParsePrefix("0.0.0.0/8"),
		false,
	}, // "this host" (RFC 6890); 0.0.0.0 reaches loopback
	{netip.MustParsePrefix("::/128"), false},                // the same
	{netip.MustParsePrefix("224.0.0.0/4"), false},           // multicast (RFC 5771)
	{netip.MustParsePrefix("ff00::/8"), false},              // multicast (RFC 4291)
	{netip.MustParsePrefix("255.255.255.255/32"), false},    // broadcast (RFC 919)
	{netip.MustParsePrefix("169.254.0.0/16"), false},        // link-local (RFC 3927)
	{netip.MustParsePrefix("fe80::/10"), false},             // link-local (RFC 4291)
	{netip.MustParsePrefix("169.254.169.254/32"), true},     // metadata of most clouds
	{netip.MustParsePrefix("fe80::a9fe:a9fe/128"), true},    // OpenStack's by IPv6
	{netip.MustParsePrefix("169.254.170.2/32"), true},       // credentials of Amazon's containers
	{netip.MustParsePrefix("169.254.170.23/32"), true},      // and of its pods
	{netip.MustParsePrefix("fd00:ec2::23/128"), true},       // the same by IPv6
	{netip.MustParsePrefix("fd00:ec2::254/128"), true},      // Amazon's by IPv6
	{netip.MustParsePrefix("fd20:ce::254/128"), true},       // Google's by IPv6
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), true}, // Oracle's by IPv6
	{netip.MustParsePrefix("192.0.0.192/32"), true},         // Oracle's of old
	{netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"), true},  // Linode's by IPv6
	{netip.MustParsePrefix("169.254.42.42/32"), true},       // Scaleway's
	{netip.MustParsePrefix("fd00:42::42/128"), true},        // the same by IPv6
	{netip.MustParsePrefix("169.254.0.23/32"), true},        // Tencent's
	{netip.MustParsePrefix("100.100.100.200/32"), true},     // Alibaba's
	{netip.MustParsePrefix("fd00:100::100:200/128"), true},  // the same by IPv6
	{netip.MustParsePrefix("168.63.129.16/32"), true},       // the host of Azure's machines
}

// isMetadataName reports whether a plain name is by convention that of a cloud's metadata service.
func isMetadataName(name string) bool {
	switch name {
	case "metadata.google.internal",
		"metadata.goog",
		"metadata.azure.internal",
		"metadata.tencentyun.com",
		"instance-data",
		"instance-data.ec2.internal":
		return true
	}
	return false
}

// specialsOf returns the special ranges that contain an address without a zone.
func specialsOf(addr netip.Addr) []special {
	var of []special
	for _, s := range specials {
		if s.prefix.Contains(addr) {
			of = append(of, s)
		}
	}
	return of
}

// liesIn reports whether outer contains all of inner.
func liesIn(inner, outer netip.Prefix) bool {
	return inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}

// The ways in which an IPv6 address embeds an IPv4 address, to which a translator, a relay or a
// tunnel leads.
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291, section 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765, section 2.1
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052, section 2.1
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056, section 2
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380, section 4
)

// embedded returns the IPv4 addresses to which an IPv6 address may lead. What is forbidden over
// IPv4 must not be reachable that way.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	last4 := netip.AddrFrom4([4]byte(b[12:]))
	var found []netip.Addr
	switch {
	case translated.Contains(addr), nat64.Contains(addr):
		found = append(found, last4)
	case compatible.Contains(addr):
		found = appendReal(found, last4) // :: and ::1 are none of these
	case localNAT64.Contains(addr):
		// The operator of the network chooses the length of the prefix, 48 to 96 bits, and with it
		// where the address is (RFC 6052, section 2.2). In all other places there may be zeros.
		found = appendReal(found,
			netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),
			netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}),
			netip.AddrFrom4([4]byte(b[9:13])),
			last4)
	case sixToFour.Contains(addr):
		found = append(found, netip.AddrFrom4([4]byte(b[2:6])))
	case teredo.Contains(addr): // through a server to a client, whose address is inverted
		client := netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
		found = append(found, netip.AddrFrom4([4]byte(b[4:8])), client)
	}
	// ISATAP: an interface identifier under any prefix, with or without the universal bit (RFC
	// 5214, section 6.1).
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		found = append(found, last4)
	}
	return found
}

// appendReal appends the addresses outside of 0.0.0.0/8, to which nothing can be sent.
func appendReal(found []netip.Addr, addrs ...netip.Addr) []netip.Addr {
	for _, a := range addrs {
		if a.As4()[0] != 0 {
			found = append(found, a)
		}
	}
	return found
}

// privates are what the word "private" in a rule covers: this machine and the networks around it.
var privates = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),      // "this host"; 0.0.0.0 reaches loopback
	netip.MustParsePrefix("10.0.0.0/8"),     // private (RFC 1918)
	netip.MustParsePrefix("100.64.0.0/10"),  // shared with a carrier's NAT (RFC 6598)
	netip.MustParsePrefix("127.0.0.0/8"),    // loopback
	netip.MustParsePrefix("169.254.0.0/16"), // link-local (RFC 3927)
	netip.MustParsePrefix("172.16.0.0/12"),  // private (RFC 1918)
	netip.MustParsePrefix("192.168.0.0/16"), // private (RFC 1918)
	netip.MustParsePrefix("::/127"),         // unspecified, and ::1, loopback
	netip.MustParsePrefix("fc00::/7"),       // unique local (RFC 4193)
	netip.MustParsePrefix("fe80::/10"),      // link-local (RFC 4291)
	netip.MustParsePrefix("fec0::/10"),      // site-local (RFC 3879)
}

// isPrivate reports whether one of privates contains an address without a zone.
func isPrivate(addr netip.Addr) bool {
	return slices.ContainsFunc(privates, func(p netip.Prefix) bool { return p.Contains(addr) })
}
