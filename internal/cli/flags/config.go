package flags

import (
	"fmt"
	"io"
	"os"

	"culvert/internal/secretfile"
)

// maxConfigSize bounds a configuration file in bytes, in case the name is another file's.
const maxConfigSize = 1 << 20

const configName = "config"

// defineConfig defines the flag that names the configuration file, for a command with other flags.
func (s *Set) defineConfig(p *string) {
	if s.flags[0].group != "" {
		s.Group("settings")
	}
	s.String(p, configName+",F", "", "take flags that are not given from `FILE`, which is "+
		"TOML (default: config.toml in culvert's configuration folder, or else that of the system)")
}

// configText is a configuration file as it was read.
type configText struct {
	content string
	mode    os.FileMode
	exposed bool // others than its owner may read or write it
}

func readConfigFile(path string) (configText, error) {
	f, err := secretfile.OpenTrusted(path)
	if err != nil {
		return configText{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return configText{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err == nil && len(b) > maxConfigSize {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxConfigSize)
	}
	return configText{string(b), info.Mode().Perm(), !secretfile.IsPrivate(info)}, err
}

// config is the content of a configuration file, by table and key. Keys before all tables are in
// the table "".
type config struct {
	tables map[string]map[string]setting
	hosts  map[string]host
	secret string // a key whose value may hold a password; "" if there is none
}

type setting struct {
	value any // as package toml decodes it into an any
	line  int
}
