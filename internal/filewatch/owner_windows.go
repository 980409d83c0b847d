package filewatch

import "io/fs"

// owner is nothing: the access control list of a file is not looked at.
type owner struct{}

func ownerOf(fs.FileInfo) owner { return owner{} }
