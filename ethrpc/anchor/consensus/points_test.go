package consensus_test

import (
	"bytes"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/ethereum/go-ethereum/common/hexutil"
)

// outsideSubgroup returns a compressed point that is on the curve but not in its subgroup: of G2 for 96 bytes, of G1 for 48.
func outsideSubgroup(size int) hexutil.Bytes {
	point := map[int]any{48: new(bls.G1Affine), 96: new(bls.G2Affine)}[size]
	for x := byte(1); ; x++ {
		b := make(hexutil.Bytes, size)
		b[0], b[size-1] = 0x80, x
		if bls.NewDecoder(bytes.NewReader(b), bls.NoSubgroupChecks()).Decode(point) == nil {
			return b
		}
	}
}
