package kv

import (
	"database/sql"
	"errors"
	"fmt"
	"math/big"

	"github.com/toolshed-cloud/shed/toolshed/jsvalue"
)

// Bounds limit a sum of numbers or big integers, each in V8's form; an empty one
// does not. A sum beyond becomes the bound where Clamp is set, else it is
// refused.
type Bounds struct {
	Min, Max []byte
	Clamp    bool
}

// combine is what becomes of the value that is there and the mutation's.
func (t *writing) combine(m Mutation) (Value, error) {
	var there Value
	err := t.QueryRow(`SELECT value, encoding FROM entries WHERE key = ? AND expires_at > ?`, m.Key, t.now).Scan(&there.Data, &there.Encoding)
	missing := errors.Is(err, sql.ErrNoRows)
	if err != nil && !missing {
		return Value{}, err
	}
	if m.Value.Encoding == U64 {
		return combineU64(m, there, missing)
	}
	return sumNumbers(m, there, missing)
}

func combineU64(m Mutation, there Value, missing bool) (Value, error) {
	if missing {
		return m.Value, nil
	}
	if there.Encoding != U64 {
		return Value{}, fmt.Errorf("%w: %s of an integer with a value that is none", ErrInvalid, m.Kind)
	}
	a, b := there.U64(), m.Value.U64()
	switch m.Kind {
	case Min:
		return U64Value(min(a, b)), nil
	case Max:
		return U64Value(max(a, b)), nil
	}
	// It wraps around, as Deno's does.
	return U64Value(a + b), nil
}

// sumNumbers adds JavaScript's numbers or big integers, of one type.
func sumNumbers(m Mutation, there Value, missing bool) (Value, error) {
	operand, err := numberOf(m.Value)
	if err != nil {
		return Value{}, fmt.Errorf("%w: the sum's value: %w", ErrInvalid, err)
	}
	lowest, err := m.bound(m.Bounds.Min, operand)
	if err != nil {
		return Value{}, err
	}
	highest, err := m.bound(m.Bounds.Max, operand)
	if err != nil {
		return Value{}, err
	}
	if missing {
		return m.Value, nil
	}
	if there.Encoding == U64 && operand.Big != nil && lowest == nil && highest == nil && operand.Big.IsUint64() {
		return U64Value(there.U64() + operand.Big.Uint64()), nil
	}
	current, err := numberOf(there)
	if err != nil || (current.Big == nil) != (operand.Big == nil) {
		return Value{}, fmt.Errorf("%w: the sum's value and the one that is there are not both numbers or both bigints", ErrInvalid)
	}
	sum := add(current, operand)
	for _, bound := range []struct {
		at   *jsvalue.Number
		sign int
	}{{lowest, -1}, {highest, 1}} {
		if bound.at == nil || compare(sum, *bound.at) != bound.sign {
			continue
		}
		if !m.Bounds.Clamp {
			return Value{}, fmt.Errorf("%w: the sum is out of its bounds", ErrInvalid)
		}
		sum = *bound.at
	}
	return Value{Encoding: V8, Data: sum.Bytes()}, nil
}

func (m Mutation) bound(b []byte, operand jsvalue.Number) (*jsvalue.Number, error) {
	if len(b) == 0 {
		return nil, nil
	}
	n, err := jsvalue.ReadNumber(b)
	if err != nil || (n.Big == nil) != (operand.Big == nil) {
		return nil, fmt.Errorf("%w: a bound of the sum is not of its value's type", ErrInvalid)
	}
	return &n, nil
}

func numberOf(v Value) (jsvalue.Number, error) {
	if v.Encoding != V8 {
		return jsvalue.Number{}, errors.New("it is no number")
	}
	return jsvalue.ReadNumber(v.Data)
}

func add(a, b jsvalue.Number) jsvalue.Number {
	if a.Big != nil {
		return jsvalue.Number{Big: new(big.Int).Add(a.Big, b.Big)}
	}
	return jsvalue.Number{Float: a.Float + b.Float}
}

func compare(a, b jsvalue.Number) int {
	switch {
	case a.Big != nil:
		return a.Big.Cmp(b.Big)
	case a.Float < b.Float:
		return -1
	case a.Float > b.Float:
		return 1
	}
	return 0
}
