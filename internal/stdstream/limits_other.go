//go:build !linux

package stdstream

// maxWrite bounds one write in bytes. A pipe that is ready takes as much without blocking on any
// system: _POSIX_PIPE_BUF.
const maxWrite = 512
