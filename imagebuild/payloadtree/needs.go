package payloadtree

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// machines are the processors that payloads are for, by Go's name of them, and
// Debian's name for where their libraries are.
var machines = map[string]struct {
	machine elf.Machine
	triplet string
}{
	"amd64": {elf.EM_X86_64, "x86_64-linux-gnu"},
	"arm64": {elf.EM_AARCH64, "aarch64-linux-gnu"},
}

// programDirs are where a program without a path is looked for.
var programDirs = []string{"/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"}

// maxLine caps the first line of a script, as the kernel does.
const maxLine = 256

// Program finds the program that a command names: by its path, or in the usual
// directories. The error is *MissingError.
func (t *Tree) Program(name string) (string, error) {
	if strings.Contains(name, "/") {
		return path.Join("/", name), nil
	}
	for _, dir := range append(slices.Clone(programDirs), "/") {
		if _, ok := t.Resolve(path.Join(dir, name)); ok {
			return path.Join(dir, name), nil
		}
	}
	return "", &MissingError{Name: name, By: "the command"}
}

// check is one look through a tree.
type check struct {
	*Tree
	architecture string
	// libraryPath is where the command's environment has libraries looked for.
	libraryPath []string
	// strict has the files that a machine is sure to load.
	strict map[string]bool
	// loaded are the libraries that something before has loaded, by name.
	loaded map[string]bool
	// named are the files of the tree by their last name.
	named map[string]bool
	// missing is the first library that is not there, with the others.
	missing *MissingError
}

// Check looks whether the command finds all that it needs in the tree: its
// program, the interpreters and loaders that those name, and the libraries of
// every ELF file, of which all that are missing are told at once. Errors match *MissingError or ErrTree.
func (t *Tree) Check(command, environment []string, architecture string) error {
	c := &check{Tree: t, architecture: architecture, strict: map[string]bool{}, loaded: map[string]bool{}, named: map[string]bool{}}
	for _, entry := range environment {
		if value, ok := strings.CutPrefix(entry, "LD_LIBRARY_PATH="); ok {
			c.libraryPath = strings.Split(value, ":")
		}
	}
	for name := range t.entries {
		c.named[path.Base(name)] = true
	}
	if err := c.program(command[0], "the command"); err != nil {
		return err
	}
	for _, name := range t.Names() {
		if e := t.entries[name]; e.Mode.IsRegular() && !c.strict[name] {
			if err := c.other(name); err != nil {
				return err
			}
		}
	}
	if c.missing != nil {
		return c.missing
	}
	return nil
}

// program checks what is executed.
func (c *check) program(name, by string) error {
	file, ok := c.Resolve(name)
	if !ok {
		return &MissingError{Name: name, By: by}
	}
	if c.strict[file] {
		return nil
	}
	c.strict[file] = true
	if e := c.entries[file]; !e.Mode.IsRegular() || e.Mode&0o111 == 0 {
		return fmt.Errorf("%w: %s, for %s, is not a file that may be executed", ErrTree, name, by)
	}
	data, err := c.Data(file)
	if err != nil {
		return err
	}
	if rest, ok := bytes.CutPrefix(data, []byte("#!")); ok {
		line, _, _ := bytes.Cut(rest[:min(len(rest), maxLine)], []byte("\n"))
		return c.script(strings.Fields(string(line)), "/"+file)
	}
	return c.executable(data, file)
}

// script checks what a script's first line names.
func (c *check) script(words []string, by string) error {
	if len(words) == 0 {
		return fmt.Errorf("%w: %s has #! and no program", ErrTree, by)
	}
	if err := c.program(words[0], by); err != nil {
		return err
	}
	if path.Base(words[0]) != "env" {
		return nil
	}
	for _, word := range words[1:] {
		if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
			continue
		}
		name, err := c.Program(word)
		if err != nil {
			return &MissingError{Name: word, By: by}
		}
		return c.program(name, by)
	}
	return nil
}

// executable checks an ELF file that is executed, with its loader and, one after
// another, all libraries.
func (c *check) executable(data []byte, file string) error {
	o, err := c.object(data, file)
	if err != nil {
		return err
	}
	if o == nil {
		return fmt.Errorf("%w: /%s is neither an ELF program nor a script", ErrTree, file)
	}
	if o.machine != machines[c.architecture].machine {
		return fmt.Errorf("%w: /%s is a program for %s, and the image for %s", ErrTree, file, o.machine, c.architecture)
	}
	if o.loader != "" {
		loader, ok := c.Resolve(o.loader)
		if !ok {
			return &MissingError{Name: o.loader, By: "/" + file}
		}
		c.strict[loader] = true
	}
	return c.libraries(o, file)
}

// libraries checks those that an object is sure to load: its own first, then
// theirs, as the loader does.
func (c *check) libraries(o *object, by string) error {
	type user struct {
		*object
		file string
	}
	for queue := []user{{o, by}}; len(queue) > 0; queue = queue[1:] {
		o := queue[0]
		for _, name := range o.needed {
			file, ok := c.library(name, o.object)
			if !ok && !c.loaded[name] {
				c.miss(name, o.file)
				continue
			}
			if c.loaded[name] = true; !ok || c.strict[file] {
				continue
			}
			c.strict[file] = true
			next, err := c.load(file)
			if err != nil {
				return err
			}
			if next != nil {
				next.inherited = append(slices.Clone(o.passed), o.inherited...)
				queue = append(queue, user{next, file})
			}
		}
	}
	return nil
}

func (c *check) load(file string) (*object, error) {
	data, err := c.Data(file)
	if err != nil {
		return nil, err
	}
	return c.object(data, file)
}

// library finds one where the loader looks (ld.so(8)), but for its cache.
func (c *check) library(name string, o *object) (string, bool) {
	if strings.Contains(name, "/") {
		return c.Resolve(name)
	}
	dirs := slices.Concat(o.paths, o.inherited, c.libraryPath)
	for _, base := range []string{"/lib", "/usr/lib", "/usr/local/lib"} {
		dirs = append(dirs, base+"/"+machines[c.architecture].triplet, base, base+"64")
	}
	for _, dir := range dirs {
		if file, ok := c.Resolve(path.Join(dir, name)); ok {
			return file, true
		}
	}
	return "", false
}

// other checks an ELF file that something may load. By then what it needs may be
// loaded already, from wherever that was: it is enough that the tree has it.
func (c *check) other(name string) error {
	data, err := c.Data(name)
	if err != nil || !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return err
	}
	o, err := c.object(data, name)
	if err != nil || o == nil || o.machine != machines[c.architecture].machine {
		return err
	}
	for _, needed := range o.needed {
		if _, ok := c.library(needed, o); !ok && !c.named[path.Base(needed)] {
			c.miss(needed, name)
		}
	}
	return nil
}

// object is what an ELF file says that it needs.
type object struct {
	machine elf.Machine
	loader  string
	needed  []string
	// paths are where it has them looked for, passed those of them that it has
	// its libraries look in too (RPATH, where there is no RUNPATH), inherited
	// those of what loaded it.
	paths, passed, inherited []string
}

const (
	maxLoader = 4096
	maxNeeded = 1024
)

// object reads an ELF file; nil where it is none.
func (c *check) object(data []byte, name string) (*object, error) {
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil, nil //nolint:nilnil // not being one is an answer
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: /%s: %w", ErrTree, name, err)
	}
	defer f.Close()
	o := &object{machine: f.Machine}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(io.LimitReader(p.Open(), maxLoader))
			if err != nil {
				return nil, fmt.Errorf("%w: /%s: loader: %w", ErrTree, name, err)
			}
			o.loader = strings.TrimRight(string(b), "\x00")
		}
	}
	if o.needed, err = strs(f, elf.DT_NEEDED); err != nil || len(o.needed) > maxNeeded {
		return nil, fmt.Errorf("%w: /%s: %d libraries: %v", ErrTree, name, len(o.needed), err) //nolint:errorlint // it is one kind of failure
	}
	if o.paths, err = searched(f, elf.DT_RUNPATH, name); err == nil && o.paths == nil {
		o.paths, err = searched(f, elf.DT_RPATH, name)
		o.passed = o.paths
	}
	if err != nil {
		return nil, fmt.Errorf("%w: /%s: %w", ErrTree, name, err)
	}
	return o, nil
}

// searched are the directories of one of a file's search paths.
func searched(f *elf.File, tag elf.DynTag, name string) (dirs []string, err error) {
	lists, err := strs(f, tag)
	origin := "/" + path.Dir(name)
	for _, list := range lists {
		for dir := range strings.SplitSeq(list, ":") {
			dirs = append(dirs, strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin).Replace(dir))
		}
	}
	return dirs, err
}

// strs are a file's dynamic strings of a kind; none where it is static.
func strs(f *elf.File, tag elf.DynTag) ([]string, error) {
	all, err := f.DynString(tag)
	if errors.Is(err, elf.ErrNoSymbols) {
		return nil, nil
	}
	return all, err
}
