package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ethereum/go-ethereum/common/hexutil"
)

// openLedger puts a ledger of the size into dir. Where ledgers are kept, it is made only once.
func (p *programs) openLedger(s size, dir string) (*ledger, error) {
	l, err := newLedger(s)
	if err != nil {
		return nil, err
	}
	if p.keep == "" {
		return l, l.write(dir, p.multicall)
	}
	kept := filepath.Join(p.keep, s.String())
	if len(p.multicall) > 0 {
		kept += "-multicall"
	}
	marks, err := os.ReadFile(filepath.Join(kept, "settled.json"))
	if errors.Is(err, fs.ErrNotExist) {
		// What was begun and not ended begins again.
		if err = os.RemoveAll(kept); err == nil {
			err = l.write(kept, p.multicall)
		}
		if err == nil {
			marks, err = json.Marshal(l.settled)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(kept, "settled.json"), marks, 0o600)
		}
	}
	if err == nil {
		err = json.Unmarshal(marks, &l.settled)
	}
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(kept))
	}
	return l, err
}

// readMulticall is the creation code of Multicall3 as viem has it. Without the npm packages there is none.
func readMulticall(root string) ([]byte, error) {
	path := filepath.Join(root, "bench", "ts", "node_modules", "viem", "_cjs", "constants", "contracts.js")
	if _, err := os.Stat(path); err != nil {
		return nil, nil
	}
	out, err := exec.Command("node", "-p", "require(process.argv[1]).multicall3Bytecode", path).Output()
	if err != nil {
		return nil, fmt.Errorf("reading viem's Multicall3: %w", err)
	}
	return hexutil.Decode(strings.TrimSpace(string(out)))
}
