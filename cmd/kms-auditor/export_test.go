package main

// Main is the program, for testscript.
var Main = main

// ParseSince reads --since.
var ParseSince = parseSince

// ParseOutputs reads what -o is given, and returns the kinds by path.
func ParseOutputs(specs []string) (kinds map[string][]string, err error) {
	all, err := parseOutputs(specs)
	kinds = map[string][]string{}
	for _, o := range all {
		kinds[o.path] = append(kinds[o.path], o.kind)
	}
	return kinds, err
}
