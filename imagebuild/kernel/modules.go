package kernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"strings"

	"github.com/ulikunitz/xz"
)

// maxModule caps one module, unpacked.
const maxModule = 32 << 20

// Module is one loadable module, uncompressed, its signature still on it.
type Module struct {
	Name string
	Data []byte
}

// Modules returns the named modules and all that they need, each after what it
// needs, otherwise in the order asked for. Those built into the kernel are
// left out.
func (k *Kernel) Modules(names []string) ([]Module, error) {
	o := ordering{kernel: k, state: map[string]visit{}}
	for _, name := range names {
		if err := o.add(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return o.modules, nil
}

type visit int

const (
	unseen visit = iota
	underway
	done
)

type ordering struct {
	kernel  *Kernel
	state   map[string]visit
	modules []Module
}

func (o *ordering) add(name string) error {
	if o.state[name] == done || o.kernel.builtin[name] {
		return nil
	}
	if o.state[name] == underway {
		return fmt.Errorf("%w: module %s needs itself", ErrPackage, name)
	}
	o.state[name] = underway
	packed, ok := o.kernel.packed[name]
	if !ok {
		return fmt.Errorf("%w: there is no module %s", ErrPackage, name)
	}
	data, err := packed.unpack()
	if err != nil {
		return fmt.Errorf("%w: module %s: %w", ErrPackage, name, err)
	}
	needs, soft, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("%w: module %s: %w", ErrPackage, name, err)
	}
	for _, need := range soft {
		// One that is an alias of a module is not looked up: it is asked for by
		// that name where the image needs it.
		if _, there := o.kernel.packed[need]; there {
			needs = append(needs, need)
		}
	}
	for _, need := range needs {
		if err := o.add(need); err != nil {
			return err
		}
	}
	o.state[name] = done
	o.modules = append(o.modules, Module{Name: name, Data: data})
	return nil
}

func (p packedModule) unpack() ([]byte, error) {
	if !p.compressed {
		return p.data, nil
	}
	r, err := xz.NewReader(bytes.NewReader(p.data))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err == nil && len(data) > maxModule {
		err = fmt.Errorf("more than %d bytes", maxModule)
	}
	return data, err
}

// dependencies reads what a module says it needs. The package has no
// modules.dep: depmod makes that when a kernel is installed, and this one
// never is.
func dependencies(module []byte) (needs, soft []string, err error) {
	file, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, nil, fmt.Errorf("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, nil, err
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch {
		case key == "depends" && value != "":
			for need := range strings.SplitSeq(value, ",") {
				needs = append(needs, moduleName(need))
			}
		case key == "softdep":
			soft = append(soft, softBefore(value)...)
		}
	}
	return needs, soft, nil
}

// softBefore reads "pre: a b post: c": those before are as good as needed,
// since nobody loads them later.
func softBefore(value string) []string {
	before, _, _ := strings.Cut(value, "post:")
	var needs []string
	for _, need := range strings.Fields(strings.TrimPrefix(strings.TrimSpace(before), "pre:")) {
		needs = append(needs, moduleName(need))
	}
	return needs
}
