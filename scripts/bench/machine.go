//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"culvert/scripts/bench/result"
)

// versionTime bounds a command that prints a version.
const versionTime = 10 * time.Second

// describe returns a run of now, with the machine, the versions of the programs and the commit.
func describe(ctx context.Context, o options) result.Run {
	run := result.Run{
		Date:    time.Now().UTC(),
		Commit:  firstMatch(`.+`, outputOf(ctx, "git", "describe", "--tags", "--always", "--dirty")),
		Command: o.command,
		Machine: result.Machine{CPU: processor(), Cores: runtime.NumCPU(), Kernel: kernel(),
			Go: runtime.Version(), Congestion: cmp.Or(o.control, congestion())},
		Programs: make(map[string]string),
	}
	for name, version := range map[string]string{
		"culvert":  firstMatch(`version (\S+)`, outputOf(ctx, o.programs.Culvert, "--version")),
		"OpenSSH":  firstMatch(`OpenSSH_(.+?),`, outputOf(ctx, o.programs.SSH, "-V")),
		"Xray":     firstMatch(`Xray (\S+)`, outputOf(ctx, o.programs.Xray, "version")),
		"HAProxy":  firstMatch(`version (\S+)`, outputOf(ctx, o.programs.HAProxy, "-v")),
		"Chromium": firstMatch(`Chromium (\S+)`, outputOf(ctx, o.chromium, "--version")),
	} {
		if version != "" {
			run.Programs[name] = version
		}
	}
	return run
}

// outputOf returns what a command prints on both outputs, or "" if the program is not installed.
func outputOf(ctx context.Context, program string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	output, _ := exec.CommandContext(ctx, program, args...).CombinedOutput()
	return string(output)
}

// firstMatch returns the last group of an expression's first match, or the match if it has none.
func firstMatch(expression, text string) string {
	match := regexp.MustCompile(expression).FindStringSubmatch(text)
	if match == nil {
		return ""
	}
	return match[len(match)-1]
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	if model := firstMatch(`(?m)^model name\s*: (.+)$`, string(text)); model != "" {
		return strings.TrimSpace(model)
	}
	return runtime.GOARCH
}

// congestion returns the congestion control that new connections have.
func congestion() string {
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func kernel() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	release, _, _ := bytes.Cut(name.Release[:], []byte{0})
	return "Linux " + string(release)
}
