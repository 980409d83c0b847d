package control

import "os"

// dropLock gives a lock back. Windows removes no file that is open; the next one with the name uses
// it.
func dropLock(f *os.File) error { return f.Close() }
