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
	Plain    = "Kms"         // lists at slots 7 and 8, an event for every write
	Backdoor = "KmsBackdoor" // Plain with two writers without events
	Moved    = "KmsMoved"    // Plain with the lists at other slots
	Old      = "KmsOld"      // lists as in Plain; ownership moves in one step, without pendingOwner
	May      = "KmsMay"      // May 2025: apps have a controller, registrations are counted by caller; ownership as in Old
	Before   = "KmsBefore"   // before May 2025: lists with other getters
	Hostile  = "KmsHostile"  // hides entries behind getters of older generations
	proxy    = "ERC1967Proxy"

	registrar = "Registrar"
)

// The generations since May 2025, by their first day.
var (
	Shifted     = "Kms20250702"                                                                              // used for two days; the lists are one slot lower
	Generations = []string{"Kms20250521", "Kms20250617", "Kms20250703", "Kms20250714", "Kms20260531", Plain} // without Shifted
)

// Artifact is a compiled contract. Bytecode is its creation code without constructor arguments.
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
