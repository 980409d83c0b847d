package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// target is what a binary is for.
type target struct {
	system, arch string
	variant      string // such as v7 of arm; of other architectures it is the only one
}

// targetOf returns the target that the folder of a binary names, such as culvert_linux_arm_7.
func targetOf(binary string) (target, error) {
	name := filepath.Base(filepath.Dir(binary))
	words := strings.Split(name, "_")
	if len(words) < 3 {
		return target{}, fmt.Errorf("%s names no system", name)
	}
	t := target{system: words[1], arch: words[2]}
	if t.arch == "arm" && len(words) > 3 {
		t.variant = "v" + words[3]
	}
	return t, nil
}
