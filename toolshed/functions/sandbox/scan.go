package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero/api"
)

const (
	magic        = "\x00asm\x01\x00\x00\x00"
	tableSection = 4
	// maxElements bounds all tables together: an element is 8 bytes here.
	maxElements = 1 << 20
	maxTables   = 16
)

var (
	errShort = errors.New("it ends too early")
	errTable = fmt.Errorf("it has more than %d tables, or they may have more than %d elements", maxTables, maxElements)
)

// scan answers what of WebAssembly a module may use. Memories are bounded as
// they grow; tables are not, so that one without a maximum may not grow, for
// which there are instructions only with reference types.
func scan(module []byte) (api.CoreFeatures, error) {
	if len(module) > MaxModuleBytes {
		return 0, fmt.Errorf("it has more than %d bytes", MaxModuleBytes)
	}
	rest, ok := bytes.CutPrefix(module, []byte(magic))
	if !ok {
		return 0, errors.New("it is no WebAssembly module of version 1")
	}
	features := api.CoreFeaturesV2
	for len(rest) > 0 {
		id := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return 0, errShort
		}
		content := rest[1+n : 1+n+int(size)]
		rest = rest[1+n+int(size):]
		if id != tableSection {
			continue
		}
		bounded, err := scanTables(content)
		if err != nil {
			return 0, err
		}
		if !bounded {
			features = features.SetEnabled(api.CoreFeatureReferenceTypes, false)
		}
	}
	return features, nil
}

// scanTables reports whether each table has a maximum.
func scanTables(b []byte) (bounded bool, err error) {
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err = errShort
			return 0
		}
		b = b[n:]
		return v
	}
	count := next()
	if count > maxTables {
		return false, errTable
	}
	bounded = true
	room := uint64(maxElements)
	for range count {
		next() // the type of its elements, one byte
		limits, least, most := next(), next(), uint64(0)
		if limits&1 == 1 {
			most = next()
		} else {
			bounded = false
		}
		if err != nil {
			return false, err
		}
		if least = max(least, most); least > room {
			return false, errTable
		}
		room -= least
	}
	return bounded, err
}
