//go:build e2e

package e2e_test

// agreements has quorums: without proofs, the configured number of providers must agree.
var agreements = []row{
	{sentence: "two providers without proofs agree", settings: both(plain, second, two), rests: "agreed unchecked"},
	{sentence: "two providers without proofs disagree about an answer", settings: both(plain, second, two), exit: 3,
		rpc: answer("eth_call", flipBool), finds: []string{"critical provider_disagreement"},
		fails: []string{"rpc p2: p1 and p2 disagree about block …is …vs."}},
	{sentence: "two providers disagree about the block's hash", settings: both(plain, second, two), exit: 3,
		rpc: otherHash, finds: []string{"critical provider_disagreement"},
		fails: []string{"rpc p1: …block unknown", "rpc p2: …the provider has no such block", "rpc p1: p2 and p1 disagree about block …its hash is", "rpc p2: only 1 of the 2 required providers agree"}},
	{sentence: "a proof needs a second provider only for the hash", settings: both(scanned, second, two), rests: wholly},
	{sentence: "a lying provider does not matter if the other one proves", settings: both(scanned, second, two), rpc: answer("eth_call", flipBool),
		fails: []string{"rpc p1: …eth_call of"}, rests: wholly},
	{sentence: "there is no quorum while the second provider is down", exit: 3, fails: []string{"rpc p2: …connection refused", "rpc p1: only 1 of the 2"},
		settings: both(two, func(_ *stage, c *settings) { c.addProvider("p2", refused) })},
}

func two(_ *stage, c *settings) { c.Chains[0].Agreement = 2 }

// otherHash gives every block another hash.
var otherHash = answer("eth_getBlockByNumber", func(raw string) string {
	return blockHash.ReplaceAllStringFunc(raw, func(s string) string { return flipLast(s) })
})
