//go:build linux

package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// member identifies a process, and tells it from a later one with the same ID.
type member struct {
	pid     int
	started uint64 // clock ticks since boot
}

// Family is a process and its descendants at one time.
type Family []member

// stat holds fields of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	member
	state  byte
	parent int
	ticks  uint64 // CPU time, user and system, with that of children that have been waited for
}

// readStat reports false if the process does not exist.
func readStat(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	// The second field is the program's name in parentheses, which may contain any characters.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return stat{}, false
	}
	number := func(field int) uint64 { // counted from 1, as the manual does
		n, _ := strconv.ParseUint(string(fields[field-3]), 10, 64)
		return n
	}
	return stat{
		member: member{pid, number(22)},
		state:  fields[0][0],
		parent: int(number(4)),
		ticks:  number(14) + number(15) + number(16) + number(17),
	}, true
}

// Tree returns the processes and all of their descendants.
func Tree(roots ...int) Family {
	var family Family
	known := make(map[int]bool)
	children := make(map[int][]stat)
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok {
			children[s.parent] = append(children[s.parent], s)
		}
	}
	var add func(s stat)
	add = func(s stat) {
		if known[s.pid] {
			return
		}
		known[s.pid] = true
		family = append(family, s.member)
		for _, child := range children[s.pid] {
			add(child)
		}
	}
	for _, pid := range roots {
		if s, ok := readStat(pid); ok {
			add(s)
		}
	}
	return family
}

// alive reports whether the process still exists and is not a zombie.
func (m member) alive() bool {
	s, ok := readStat(m.pid)
	return ok && s.started == m.started && s.state != 'Z'
}

// kill kills the processes that are left, and waits until they have exited.
func (f Family) kill() {
	for _, m := range f {
		if m.alive() {
			syscall.Kill(m.pid, syscall.SIGKILL)
		}
	}
	for deadline := time.Now().Add(goneTime); time.Now().Before(deadline); time.Sleep(pollPause) {
		left := false
		for _, m := range f {
			left = left || m.alive()
		}
		if !left {
			return
		}
	}
}
