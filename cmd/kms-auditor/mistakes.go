package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// nearest returns the candidate that a mistyped word is closest to, or "". Case does not matter.
func nearest(typed string, candidates []string) string {
	probe := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, name := range candidates {
		probe.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	for _, same := range []func(string) bool{
		func(c string) bool { return strings.EqualFold(c, typed) },
		func(c string) bool { return len(c) > 2 && strings.HasPrefix(strings.ToLower(typed), c) },
	} {
		if i := slices.IndexFunc(candidates, same); i >= 0 {
			return candidates[i]
		}
	}
	if near := probe.SuggestionsFor(typed); len(typed) > 1 && len(near) > 0 {
		return near[0]
	}
	return ""
}

// didYouMean ends an error; an empty suggestion ends it with instead.
func didYouMean(suggestion, instead string) string {
	if suggestion == "" {
		return instead
	}
	return ": did you mean " + suggestion + "?"
}

// oneOf checks the value of a flag, or of whatever is named.
func oneOf(what, value string, choices []string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return fmt.Errorf("%s %q is not one of %s%s", what, value, strings.Join(choices, ", "), didYouMean(nearest(value, choices), ""))
}

// noArgs refuses arguments, and suggests a command or flag instead.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	what := "argument"
	if cmd.HasAvailableSubCommands() {
		what = "command"
	}
	return fmt.Errorf("unknown %s %q for %q%s", what, args[0], cmd.CommandPath(), didYouMean(meant(cmd, args[0]), ""))
}

// oneArg demands one argument, which sentence describes.
func oneArg(sentence string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s needs one argument, not %d: %s", cmd.Name(), len(args), sentence)
		}
		return nil
	}
}

// meant returns the command or flag that a word given to cmd may stand for, or "".
func meant(cmd *cobra.Command, word string) string {
	if name := nearest(word, subcommands(cmd)); name != "" {
		return cmd.CommandPath() + " " + name
	}
	if name := nearest(word, flagsOf(cmd)); name != "" {
		return cmd.CommandPath() + " --" + name
	}
	return elsewhere(cmd.Root(), word)
}

// elsewhere returns the command or flag of that name below cmd, or "".
func elsewhere(cmd *cobra.Command, word string) string {
	for _, sub := range cmd.Commands() {
		switch {
		case sub.Hidden:
		case strings.EqualFold(sub.Name(), word):
			return sub.CommandPath()
		case slices.Contains(flagsOf(sub), strings.ToLower(word)):
			return sub.CommandPath() + " --" + strings.ToLower(word)
		}
		if found := elsewhere(sub, word); found != "" {
			return found
		}
	}
	return ""
}

// subcommands names the commands directly below cmd that its help lists.
func subcommands(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// flagsOf lists the flags that only cmd and its parents have, but for those of all commands.
func flagsOf(cmd *cobra.Command) (names []string) {
	global := cmd.Root().PersistentFlags()
	_ = cmd.InheritedFlags() // merges the parents' flags into its own
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && global.Lookup(f.Name) == nil {
			names = append(names, f.Name)
		}
	})
	return names
}

// flagError suggests a flag for one that does not exist.
func flagError(cmd *cobra.Command, err error) error {
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return noArgs(cmd, args) // the flag is of a command that is not known
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedName() == "" {
		return err
	}
	name := unknown.GetSpecifiedName()
	all := flagsOf(cmd)
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	near := nearest(name, all)
	if near != "" {
		near = "--" + near
	} else if _, long, _ := strings.Cut(elsewhere(cmd.Root(), name), " --"); long != "" {
		near = elsewhere(cmd.Root(), name)
	}
	return fmt.Errorf("%w%s", err, didYouMean(near, ""))
}

// singleDash refuses a long flag with one dash: -once would be read as -o with the value nce.
func singleDash(root *cobra.Command, args []string) error {
	cmd, _, err := root.Find(args)
	if err != nil {
		cmd = root
	}
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		switch {
		case arg == "--":
			return nil
		case len(name) < 2 || arg[0] != '-' || name[0] == '-':
		case slices.Contains(flagsOf(cmd), name) || root.PersistentFlags().Lookup(name) != nil:
			return fmt.Errorf("unknown flag -%s: did you mean --%s?", name, name)
		}
	}
	return nil
}

// missingFile returns a hint about a file that does not exist: the same name with the other YAML ending if that file exists, else
// instead.
func missingFile(path, instead string) string {
	for ext, other := range map[string]string{".yml": ".yaml", ".yaml": ".yml"} {
		if base, ok := strings.CutSuffix(path, ext); ok {
			if _, err := os.Stat(base + other); err == nil {
				return ": did you mean " + filepath.Base(base) + other + "?"
			}
		}
	}
	return ": " + instead
}
