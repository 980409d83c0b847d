//go:build !linux

package pollbreak

// event is for systems on which nothing needs to be done, or nothing is known that helps.
type event struct{}

func (*event) wait()  {}
func (*event) close() {}
