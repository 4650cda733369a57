package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Refuses returns why blocks of a policy cannot be audited with the anchor, or nil. The anchor may be nil.
func (a *Anchor) Refuses(tag ethrpc.BlockTag) error {
	if a == nil || a.L1Name == "" || tag != ethrpc.Latest {
		return nil
	}
	return errors.New("cannot be used with block: latest, since a replaced block would count as invented: use finalized, safe or latest-N")
}

// l1 checks the anchor of an L2.
func (d *doc) l1(path string, c *Chain, all []Chain) {
	a := c.Anchor
	for _, key := range []string{"beacon", "checkpoint", "network"} {
		d.check(!d.given(path+"."+key), path+"."+key, "belongs to the anchor of L1: remove it here")
	}
	d.check(a.SystemConfig != (common.Address{}), path+".system_config", "must be given: the address of the chain's SystemConfig contract on L1")
	d.check(a.Required != Required(audit.TrustConsensus), path+".required", "must be false, proposed or anchored: no sync committee signs the blocks of an L2")
	for _, tag := range c.Block {
		if err := a.Refuses(tag); err != nil {
			d.add(path, "%s", err)
		}
	}
	i := slices.IndexFunc(all, func(o Chain) bool { return o.Name == a.L1Name && o.Anchor != nil && o.Anchor.L1Name == "" })
	if i < 0 {
		d.add(path+".l1", "must be the name of a chain here, such as ethereum, that has an anchor with beacon and checkpoint")
		return
	}
	a.L1 = &all[i]
}

func (d *doc) anchor(path string, a *Anchor, chainID uint64) {
	d.check(len(a.Beacon) > 0, path+".beacon", "must have at least one beacon API")
	for at, e := range elements(d, path+".beacon", a.Beacon) {
		d.check(providerName.MatchString(e.Name), at+".name", "must be a name of 1 to 64 characters of A-Z, a-z, 0-9, dot, _ and -")
		d.unique(at+".name", e.Name, "beacon API %s is listed twice in this chain")
		d.secretURL(at, &e.URL)
		d.positive(at+".timeout", e.Timeout)
	}
	d.check(d.bad(path+".checkpoint") || a.Checkpoint != (common.Hash{}), path+".checkpoint", "must be given: the root of a block that was finalized less than 14 days ago, from a source that you trust, such as your own node or two explorers")
	var known bool
	a.Network, known = consensus.ByChainID(chainID)
	switch {
	case a.File != "":
		var err error
		d.files = append(d.files, d.abs(a.File))
		if a.Network, err = readNetwork(d.abs(a.File)); err == nil {
			a.Network, err = a.Network.OfChain(chainID)
		}
		if err != nil {
			d.add(path+".network", "reading %s: %s", sanitize.Quote(a.File), strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	case !known && chainID != 0:
		d.add(path+".network", "must be given: chain %d is neither Ethereum (1) nor Sepolia (11155111); the anchor of an L2 has l1 and system_config instead; for a network of your own, name a file that describes its beacon chain", chainID)
	}
}

// readNetwork reads the specification and the genesis of a beacon chain: one YAML or JSON mapping of names to values.
func readNetwork(path string) (consensus.Network, error) {
	data, err := readFile(path, maxSize)
	if err != nil {
		return consensus.Network{}, err
	}
	var values map[string]yaml.Node
	if err := yaml.Unmarshal(data, &values); err != nil {
		return consensus.Network{}, errors.New("it is not a mapping of names to values")
	}
	spec := make(map[string]string, len(values))
	for name, value := range values {
		spec[name] = value.Value
	}
	return consensus.NetworkFromSpec(spec)
}
