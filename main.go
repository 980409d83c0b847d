// Culvert carries a browser, single ports and scripts through one secured WebSocket. See README.md.
package main

import (
	"context"
	"os"

	"culvert/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(cli.Main(context.Background(), os.Args, version))
}
