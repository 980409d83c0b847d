package cli

import (
	"errors"
	"io/fs"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/tunnel/policy"
)

// socketOptions are who may connect to the unix sockets of --listen.
type socketOptions struct {
	mode  string
	group string
}

func (o *socketOptions) define(s *flags.Set) {
	s.String(&o.mode, "socket-mode", "",
		"give unix sockets of --listen the octal mode `MODE`, such as 660 for a group "+
			"(default: 600, only the user may connect)")
	s.String(&o.group, "socket-group", "",
		"give unix sockets of --listen to the group `GROUP`, a name or a number, "+
			"of which the user has to be a member (default: the user's group)")
}

// access returns the access to the unix sockets among the addresses. Without any, an option for
// them is an error, since a socket elsewhere may be more open than it was meant to be.
func (o *socketOptions) access(addresses []string) (access policy.SocketAccess, err error) {
	if *o == (socketOptions{}) {
		return access, nil
	}
	if runtime.GOOS == "windows" {
		return access, exit.Usagef("put the socket into a folder that only those users may open",
			"--socket-mode and --socket-group have no effect on Windows")
	}
	isSocket := func(address string) bool { return strings.HasPrefix(address, "unix:") }
	if !slices.ContainsFunc(addresses, isSocket) {
		return access, exit.Usagef("--listen unix:/run/culvert/remote.sock binds one",
			"--socket-mode and --socket-group are for unix sockets, and no --listen names one")
	}
	if access.Mode, err = parseSocketMode(o.mode); err != nil {
		return access, err
	}
	if o.group != "" {
		id, err := groupID(o.group)
		if err != nil {
			return access, &flags.ValueError{
				Flag: "socket-group", Value: o.group, Why: err.Error(), Example: "www-data",
			}
		}
		access.Group = &id
	}
	return access, nil
}

// parseSocketMode parses --socket-mode, 0 if it is not given. Its user has access in any case: the
// watchdog's checks connect.
func parseSocketMode(text string) (fs.FileMode, error) {
	if text == "" {
		return 0, nil
	}
	mode, err := strconv.ParseUint(text, 8, 16)
	if err != nil || mode > 0o777 || mode&0o600 != 0o600 {
		return 0, &flags.ValueError{
			Flag: "socket-mode", Value: text, Why: "not an octal mode from 600 to 777", Example: "660",
		}
	}
	return fs.FileMode(mode), nil
}

// groupID returns the number of a group.
func groupID(group string) (int, error) {
	if id, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(id), nil
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
			return 0, errors.New("there is no such group")
		}
		return 0, err
	}
	id, err := strconv.ParseUint(found.Gid, 10, 31)
	if err != nil {
		return 0, errors.New("groups of this system can't own a socket")
	}
	return int(id), nil
}
