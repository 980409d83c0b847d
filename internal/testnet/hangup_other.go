//go:build !unix

package testnet

// TakeHangups does nothing where there is no SIGHUP.
func TakeHangups() {}
