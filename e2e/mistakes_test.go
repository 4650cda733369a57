//go:build e2e

package e2e_test

import "strings"

// mistakes are typical mistakes in a configuration.
var mistakes = []row{
	{sentence: "an unknown key is refused", exit: 2, says: "chains[0].blok",
		text: replace(`"block"`, `"blok"`)},
	{sentence: "hex without quotes is refused", exit: 2, says: "hex must be in quotes",
		text: replace(`"latest"`, "0x"+strings.Repeat("ab", 32))},
	{sentence: "an address that is too short is refused", exit: 2, says: "chains[0].contracts[0].address",
		settings: func(s *stage, c *settings) { c.configure(s.kms.Address().Hex()[:40]) }},
	{sentence: "a chain named twice is refused", exit: 2, says: "chain base is listed twice",
		settings: func(_ *stage, c *settings) { c.Chains = append(c.Chains, c.Chains[0]) }},
	{sentence: "a provider named twice is refused", exit: 2, says: "provider p1 is listed twice",
		settings: func(_ *stage, c *settings) { c.addProvider("p1", c.Chains[0].Providers[0].URL) }},
	{sentence: "a chain without providers is refused", exit: 2, says: "must have at least one provider",
		settings: func(_ *stage, c *settings) { c.Chains[0].Providers = []providerSettings{} }},
	{sentence: "nothing to audit is refused", exit: 2, says: "nothing to audit",
		settings: func(_ *stage, c *settings) { c.Chains = []chainSettings{} }},
	{sentence: "a schedule of four fields is refused", exit: 2, says: "schedule",
		settings: func(_ *stage, c *settings) { c.Schedule = "* * * *" }},
	{sentence: "a time zone inside the schedule is refused", exit: 2, says: "schedule",
		settings: func(_ *stage, c *settings) { c.Schedule = "TZ=0 * * * * *" }},
	{sentence: "a schedule that never fires is refused", exit: 2, says: "schedule",
		settings: func(_ *stage, c *settings) { c.Schedule = "0 0 30 2 *" }},
	{sentence: "a negative duration is refused", exit: 2, says: "confirm_delay",
		settings: func(_ *stage, c *settings) { c.ConfirmDelay = "-1s" }},
	{sentence: "a file of secrets that is not there is refused", exit: 2, says: "api.api_key_file",
		settings: func(_ *stage, c *settings) { c.API.APIKeyFile = "no-such-file" }},
	{sentence: "a key pasted in the place of its file is refused", exit: 2, says: "api.api_key_file",
		settings: func(s *stage, c *settings) { c.API.APIKeyFile = s.secrets.key }},
	{sentence: "a provider's URL that is none is refused", exit: 2, says: "chains[0].providers[0].url",
		settings: func(_ *stage, c *settings) {
			c.Chains[0].Providers[0].URL = strings.Replace(c.Chains[0].Providers[0].URL, "http", "ftp", 1)
		}},
	{sentence: "a block policy that nobody knows is refused", exit: 2, says: "chains[0].block",
		settings: func(_ *stage, c *settings) { c.Chains[0].Block = "newest" }},
	{sentence: "text that is no YAML is refused", exit: 2, says: "not valid YAML",
		text: func(good string) string { return good[:len(good)-1] }},
	{sentence: "an empty file is refused", exit: 2, says: "no settings",
		text: func(string) string { return "" }},
}

func replace(old, new string) func(string) string {
	return func(text string) string { return strings.Replace(text, old, new, 1) }
}

func (c *settings) addProvider(name, url string) {
	c.Chains[0].Providers = append(c.Chains[0].Providers, providerSettings{Name: name, URL: url, Timeout: "2s"})
}
