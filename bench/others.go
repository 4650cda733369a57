package main

import (
	"fmt"
	"path/filepath"
	"time"
)

const (
	viem   = "TypeScript"
	abigen = "Go, abigen"
	shell  = "cast loop"
)

// others are what one would write instead of using kms-auditor. None of them proves anything, nor sees what the API does
// not list.
var others = []contender{
	{name: viem, run: script, read: readLines},
	{name: abigen, run: func(w *world) (command, error) { return w.command(w.abigen), nil }, read: readLines, sequential: true, most: 10_000, patience: time.Minute},
	{name: shell, run: cast, read: readLines, sequential: true, most: 1000, patience: 5 * time.Minute},
}

// command has the arguments that all others take.
func (w *world) command(program ...string) command {
	args := append(program, w.api.URL)
	for i := range w.size.chains {
		args = append(args, fmt.Sprintf("%s=%s=%s", chainName(i), w.rules.ChainID, w.rpc.URL))
	}
	return command{dir: w.dir, args: args}
}

func script(w *world) (command, error) { return w.command("node", w.script), nil }

func cast(w *world) (command, error) {
	c := w.command("bash", filepath.Join(w.root, "bench", "cast.sh"))
	c.env = []string{"PATH=" + filepath.Dir(w.cast) + ":/usr/local/bin:/usr/bin:/bin"}
	return c, nil
}
