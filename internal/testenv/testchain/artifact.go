package testchain

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common/hexutil"
)

// The names of the contracts.
const (
	Plain    = "Kms"         // the lists at slots 7 and 8, an event for every write
	Backdoor = "KmsBackdoor" // Plain, and two writers without events
	Moved    = "KmsMoved"    // Plain, but the lists are at other slots
	Old      = "KmsOld"      // the lists as in Plain; ownership moves in one step, and there is no pendingOwner
	May      = "KmsMay"      // of May 2025: apps have a controller, and whoever registers them is counted; ownership as in Old
	Before   = "KmsBefore"   // of before May 2025: without the two getters
	Hostile  = "KmsHostile"  // hides entries behind getters of older generations
	proxy    = "ERC1967Proxy"

	registrar = "Registrar"
)

// The generations since May 2025, by the day from which on they were.
var (
	Shifted     = "Kms20250702"                                                                              // for two days: the lists are one slot lower than before and after
	Generations = []string{"Kms20250521", "Kms20250617", "Kms20250703", "Kms20250714", "Kms20260531", Plain} // without Shifted
)

// Artifact is a compiled contract: Bytecode is its creation code, without constructor arguments.
type Artifact struct {
	ABI      abi.ABI       `json:"abi"`
	Bytecode hexutil.Bytes `json:"bytecode"`
}

//go:embed contracts/contracts.json
var compiled []byte

var artifacts = sync.OnceValues(func() (map[string]Artifact, error) {
	var m map[string]Artifact
	return m, json.Unmarshal(compiled, &m)
})

// Contract returns the artifact of one of the named contracts.
func Contract(name string) (Artifact, error) {
	m, err := artifacts()
	if err != nil {
		return Artifact{}, fmt.Errorf("parsing the compiled contracts: %w", err)
	}
	a, ok := m[name]
	if !ok {
		return Artifact{}, fmt.Errorf("no contract is named %q", name)
	}
	return a, nil
}
