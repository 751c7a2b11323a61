package initrd

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// triplets are Debian's names of architectures.
var triplets = map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu"}

// libraryDirs is where a Debian system of an architecture keeps libraries.
func libraryDirs(machine elf.Machine) []string {
	return []string{
		"/lib/" + triplets[machine], "/usr/lib/" + triplets[machine], "/lib64", "/usr/lib64", "/lib", "/usr/lib",
	}
}

// maxLibraries bounds the search for what a program needs.
const maxLibraries = 64

// Library is a file that a program needs, at the path where its loader looks.
type Library struct {
	Path string
	Data []byte
}

// Libraries returns the shared libraries that the program in file needs, and
// the loader that it names, in no particular order. They are looked for below
// root, which is empty for the host's own.
func Libraries(root, file string) ([]Library, error) {
	machine, interpreter, needed, err := dynamic(file)
	if err != nil {
		return nil, err
	}
	found := map[string]Library{}
	if interpreter != "" {
		data, err := read(root, interpreter)
		if err != nil {
			return nil, fmt.Errorf("reading loader of %s: %w", file, err)
		}
		found[filepath.Base(interpreter)] = Library{Path: interpreter, Data: data}
	}
	for len(needed) > 0 {
		name := needed[0]
		needed = needed[1:]
		if _, ok := found[name]; ok {
			continue
		}
		lib, more, err := library(root, name, machine)
		if err != nil {
			return nil, fmt.Errorf("finding what %s needs: %w", file, err)
		}
		found[name] = lib
		needed = append(needed, more...)
		if len(found) > maxLibraries {
			return nil, fmt.Errorf("%w: %s needs more than %d libraries", ErrEntry, file, maxLibraries)
		}
	}
	var all []Library
	for _, lib := range found {
		all = append(all, lib)
	}
	return all, nil
}

// library finds one by its name in the directories that the loader searches
// without a cache.
func library(root, name string, machine elf.Machine) (Library, []string, error) {
	dirs := libraryDirs(machine)
	for _, dir := range dirs {
		file := filepath.Join(dir, name)
		data, err := read(root, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Library{}, nil, err
		}
		_, _, needed, err := dynamicOf(bytes.NewReader(data), file)
		return Library{Path: file, Data: data}, needed, err
	}
	return Library{}, nil, fmt.Errorf("%w: library %s is in none of %v", ErrEntry, name, dirs)
}

// read reads a file below root, whose links lead nowhere else.
func read(root, file string) ([]byte, error) {
	if root != "" {
		inside, err := securejoin.SecureJoin(root, file)
		if err != nil {
			return nil, err
		}
		file = inside
	}
	return os.ReadFile(file)
}

func dynamic(file string) (machine elf.Machine, interpreter string, needed []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, "", nil, fmt.Errorf("reading %s: %w", file, err)
	}
	defer f.Close()
	return dynamicOf(f, file)
}

func dynamicOf(r io.ReaderAt, file string) (machine elf.Machine, interpreter string, needed []string, err error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return 0, "", nil, fmt.Errorf("reading %s: %w", file, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if err != nil {
				return 0, "", nil, fmt.Errorf("reading loader's name of %s: %w", file, err)
			}
			interpreter = strings.TrimRight(string(b), "\x00")
		}
	}
	needed, err = f.ImportedLibraries()
	if err != nil {
		return 0, "", nil, fmt.Errorf("reading libraries of %s: %w", file, err)
	}
	return f.Machine, interpreter, needed, nil
}
