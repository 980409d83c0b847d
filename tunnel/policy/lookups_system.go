//go:build cgo || darwin || windows

package policy

// outlivesContext says that the resolver may be the system's, which goes on when its context is
// done.
const outlivesContext = true
