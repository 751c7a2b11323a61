// Package cli is what the programs behind one command line share: shed, which
// people type, and shed-serve and shed-image, which it hands commands to.
//
// Invariants: whichever program answers, the global flags, the exit codes and
// the shape of errors and hints are the same; a command line that names no
// command does nothing and exits with 2. It links nothing that the client may
// not.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Main runs the command line of the process and exits.
func Main(root *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, root, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// NewRoot is the command that all others are below. It is called shed in every
// program: that is what people typed.
func NewRoot(long string) *cobra.Command {
	root := &cobra.Command{
		Use:           "shed",
		Short:         "a personal, attested VM for every user",
		Long:          long + "\n\n" + ExitCodes,
		Version:       readVersion().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetHelpCommand(newHelpCommand())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Hinted(Usage(err), "%s --help lists the flags", cmd.CommandPath())
	})
	root.SetVersionTemplate("{{.Version}}\n")
	root.PersistentFlags().Bool("json", false, "print JSON for programs, errors too")
	root.PersistentFlags().String("state", "", "state directory (default .shed, or SHED_STATE)")
	addManual(root)
	return root
}

// Run executes one command line and returns the exit code.
func Run(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	began := false
	prepare(root, &began)
	err := root.ExecuteContext(ctx)
	if err != nil && !began && ExitCode(err) == ExitFailed {
		// Cobra complains about flags and arguments without a type, but always
		// before the command begins.
		err = Usage(err)
	}
	return Report(stderr, unlessInterrupted(ctx, err), AsksForJSON(args))
}

// unlessInterrupted says so first where a command was ended from outside: what broke in
// it then, a package that ends early or a call that was given up, is no fault of that.
func unlessInterrupted(ctx context.Context, err error) error {
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	switch ExitCode(err) {
	case ExitFailed, ExitUnreachable, ExitTimedOut:
		if errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)) {
			return errInterrupted
		}
		return Failed(fmt.Errorf("%w: %w", errInterrupted, err))
	}
	return err
}

// errInterrupted is the end of a command that was asked to end before it was done.
var errInterrupted = errors.New("interrupted")

// prepare makes each group of commands refuse what is none of them, and notes
// when a command begins.
func prepare(cmd *cobra.Command, began *bool) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = group
		cmd.SetUsageTemplate(strings.Replace(cmd.UsageTemplate(),
			"{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	} else if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*began = true
			if err := checkFlags(cmd.Flags()); err != nil {
				return err
			}
			return run(cmd, args)
		}
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error { return explainArgs(cmd, args, check(cmd, args)) }
		}
	}
	for _, child := range cmd.Commands() {
		prepare(child, began)
	}
}

// explainArgs says how a command is used; cobra calls an argument too many an
// unknown command.
func explainArgs(cmd *cobra.Command, args []string, err error) error {
	if err == nil {
		return nil
	}
	return Hinted(Usage(fmt.Errorf("%s: wrong number of arguments: %d", cmd.CommandPath(), len(args))), "usage: %s", cmd.UseLine())
}

// group is a command that only holds others.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return Unknown(cmd, args[0])
}

// Unknown refuses a name that none of cmd's commands has, with the nearest.
func Unknown(cmd *cobra.Command, name string) error {
	err := Usage(fmt.Errorf("unknown command %q for %q", name, cmd.CommandPath()))
	cmd.SuggestionsMinimumDistance = 2
	var near []string
	for _, found := range cmd.SuggestionsFor(name) {
		near = append(near, cmd.CommandPath()+" "+found)
	}
	if near == nil {
		near = below(cmd, name)
	}
	if near == nil {
		return Hinted(err, "%s --help lists the commands", cmd.CommandPath())
	}
	return Hinted(err, "did you mean: %s", strings.Join(near, ", or "))
}

// below is where in cmd's groups, or else above all groups, the name is a command's.
func below(cmd *cobra.Command, name string) (paths []string) {
	if cmd.HasParent() {
		for _, child := range cmd.Root().Commands() {
			if child.Name() == name {
				paths = append(paths, child.CommandPath())
			}
		}
	}
	for _, group := range cmd.Commands() {
		for _, child := range group.Commands() {
			if child.Name() == name {
				paths = append(paths, child.CommandPath())
			}
		}
	}
	return paths
}

// newHelpCommand is cobra's, but that it refuses a name which is no command's.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "help [command]",
		Short:             "help about any command",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err == nil && found.HasSubCommands() && len(rest) > 0 {
				return Unknown(found, rest[0])
			}
			if err != nil {
				return Usage(err)
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// StateDir is where everything of a local run lives: flag over environment
// over default.
func StateDir(cmd *cobra.Command) string {
	if dir := FlagOrEnv(cmd, "state", "SHED_STATE"); dir != "" {
		return dir
	}
	return ".shed"
}

// ControlDir is the control plane's part of the state.
func ControlDir(cmd *cobra.Command) string { return filepath.Join(StateDir(cmd), "control") }

// FlagOrEnv is a flag's value, the variable's where that is empty.
func FlagOrEnv(cmd *cobra.Command, flag, env string) string {
	if v, err := cmd.Flags().GetString(flag); err == nil && v != "" {
		return v
	}
	return os.Getenv(env)
}

// WantsJSON reports whether a command shall print for programs.
func WantsJSON(cmd *cobra.Command) bool {
	json, err := cmd.Flags().GetBool("json")
	return err == nil && json
}

// AsksForJSON is WantsJSON of a command line that may be a wrong one.
func AsksForJSON(args []string) bool {
	asks := false
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "--json" {
			asks = true
		} else if value, ok := strings.CutPrefix(arg, "--json="); ok {
			set, err := strconv.ParseBool(value)
			asks = set && err == nil
		}
	}
	return asks
}

// PrintResult writes v for programs, the text for people.
func PrintResult(cmd *cobra.Command, v any, format string, args ...any) error {
	var err error
	if WantsJSON(cmd) {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), format, args...)
	}
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// UntilInterrupted takes being interrupted for the end that was wanted.
func UntilInterrupted(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil //nolint:nilerr // it was asked to end
	}
	return err
}
