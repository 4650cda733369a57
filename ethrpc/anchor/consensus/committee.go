package consensus

import (
	"errors"
	"fmt"
	"math/bits"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/ethereum/go-ethereum/common"
)

// committee is a sync committee with decoded keys. It is immutable.
type committee struct {
	root common.Hash
	keys []bls.G1Affine
}

// newCommittee decodes and validates the keys (KeyValidate). A committee of 512 takes about 40 ms.
func newCommittee(c *syncCommittee) (*committee, error) {
	out := &committee{c.root(), make([]bls.G1Affine, len(c.Pubkeys))}
	for i, key := range c.Pubkeys {
		if _, err := out.keys[i].SetBytes(key[:]); err != nil { // SetBytes checks the subgroup too
			return nil, fmt.Errorf("decoding key %d of the sync committee: %w", i, err)
		}
		if out.keys[i].IsInfinity() {
			return nil, fmt.Errorf("decoding key %d of the sync committee: it is the point at infinity", i)
		}
	}
	return out, nil
}

// ciphersuite is the BLS ciphersuite of specs/phase0/beacon-chain.md.
var ciphersuite = []byte("BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_")

// verify checks the aggregate signature of the members whose bit is set. They must be at least two thirds of the committee.
func (c *committee) verify(signers []byte, signature *signature, signingRoot common.Hash) error {
	if len(signers)*8 != len(c.keys) {
		return fmt.Errorf("it has %d participation bits, but the sync committee has %d members", len(signers)*8, len(c.keys))
	}
	count := 0
	for _, b := range signers {
		count += bits.OnesCount8(b)
	}
	if count*3 < len(c.keys)*2 {
		return fmt.Errorf("%d of %d members of the sync committee signed, fewer than two thirds", count, len(c.keys))
	}
	var point bls.G2Affine
	if _, err := point.SetBytes(signature[:]); err != nil {
		return fmt.Errorf("decoding the signature: %w", err)
	}
	var sum bls.G1Jac
	for i := range c.keys {
		if signers[i/8]>>(i%8)&1 == 1 {
			sum.AddMixed(&c.keys[i])
		}
	}
	var key bls.G1Affine
	key.FromJacobian(&sum)
	if point.IsInfinity() || key.IsInfinity() {
		return errors.New("the signature or the sum of its keys is the point at infinity")
	}
	message, err := bls.HashToG2(signingRoot[:], ciphersuite)
	if err != nil {
		return fmt.Errorf("hashing the signed root: %w", err)
	}
	_, _, one, _ := bls.Generators()
	one.Neg(&one)
	// e(key, message) = e(1, signature)
	valid, err := bls.PairingCheck([]bls.G1Affine{key, one}, []bls.G2Affine{message, point})
	if err != nil {
		return fmt.Errorf("checking the signature: %w", err)
	}
	if !valid {
		return errors.New("the sync committee did not sign this header: the signature is invalid")
	}
	return nil
}

// signingRoot returns what the committee signs (compute_signing_root): a block's root, bound to the fork and the network.
func signingRoot(block common.Hash, version [4]byte, genesisValidatorsRoot common.Hash) common.Hash {
	var fork common.Hash
	copy(fork[:], version[:])
	data := hashPair(fork, genesisValidatorsRoot)
	domain := common.Hash{7} // DOMAIN_SYNC_COMMITTEE
	copy(domain[4:], data[:28])
	return hashPair(block, domain)
}
