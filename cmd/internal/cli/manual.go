//go:build manual

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// addManual adds a command that writes manual pages. It is linked for that
// alone (scripts/man): nobody else shall trust what renders them.
func addManual(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use: "man DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0]) },
	})
}

// writeManual writes a page for each command that this program has itself.
func writeManual(cmd *cobra.Command, dir string) error {
	if cmd.Hidden || cmd.DisableFlagParsing || cmd.Name() == "completion" || cmd.Name() == "help" {
		return nil
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	f, err := os.Create(filepath.Join(dir, name+".1"))
	if err != nil {
		return fmt.Errorf("writing a manual page: %w", err)
	}
	defer f.Close() //nolint:errcheck // a second close; the first is below
	cmd.Long = asWritten(cmd.Long)
	header := &doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "Shed", Manual: "Shed"}
	if err := doc.GenMan(cmd, header, f); err != nil {
		return fmt.Errorf("writing a manual page: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing a manual page: %w", err)
	}
	for _, child := range cmd.Commands() {
		if err := writeManual(child, dir); err != nil {
			return err
		}
	}
	return nil
}

// asWritten has the lines of a help text that are indented, commands to copy and tables,
// stand in a page as they do in the help: as blocks of code, in Markdown's terms.
func asWritten(long string) string {
	var b strings.Builder
	before := ""
	for line := range strings.Lines(long) {
		indented, text := strings.HasPrefix(line, "  "), strings.TrimSpace(line) != ""
		if text && strings.TrimSpace(before) != "" && indented != strings.HasPrefix(before, "  ") {
			b.WriteString("\n")
		}
		if indented {
			b.WriteString("  ")
		}
		b.WriteString(line)
		before = line
	}
	return b.String()
}
