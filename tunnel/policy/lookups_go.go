//go:build !cgo && !darwin && !windows

package policy

// outlivesContext is false: Go's own resolver ends with its context.
const outlivesContext = false
