package jsvalue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// maxJSON bounds the JSON of a value: escaping makes it at most six times as
// long.
const maxJSON = 16 << 20

// toJSON writes the JSON of what a reader reads.
type toJSON struct {
	*reader
	out []byte
}

// ToJSON is a value as JSON. The error is ErrNotJSON where JSON cannot hold it.
func ToJSON(b []byte) ([]byte, error) {
	r, err := open(b)
	if err != nil {
		return nil, err
	}
	w := &toJSON{reader: r}
	there, err := w.value(0)
	switch {
	case err != nil:
		return nil, err
	case !there:
		return nil, fmt.Errorf("%w: it is undefined", ErrNotJSON)
	case w.at != len(w.all):
		return nil, fmt.Errorf("%w: something follows it", ErrBroken)
	}
	return w.out, nil
}

// value writes the next one, unless it is undefined.
func (w *toJSON) value(depth int) (there bool, err error) {
	if depth > maxDepth || len(w.out) > maxJSON {
		return false, fmt.Errorf("%w: it is too deep or too long", ErrNotJSON)
	}
	tag, err := w.tag()
	if err != nil {
		return false, err
	}
	switch tag {
	case tagUndefined, tagHole:
		return false, nil
	case tagObject:
		return true, w.object(depth)
	case tagDense:
		return true, w.dense(depth)
	}
	return true, w.primitive(tag)
}

func (w *toJSON) primitive(tag byte) error {
	switch tag {
	case tagNull:
		w.out = append(w.out, "null"...)
	case tagTrue, tagTrueObject:
		w.out = append(w.out, "true"...)
	case tagFalse, tagFalseObject:
		w.out = append(w.out, "false"...)
	case tagInt32, tagUint32, tagDouble, tagNumber:
		f, err := w.number(tag)
		if err != nil {
			return err
		}
		w.float(f)
	case tagDate:
		return w.date()
	case tagOneByte, tagTwoByte, tagUTF8:
		s, err := w.text(tag)
		if err != nil {
			return err
		}
		return w.str(s)
	case tagString:
		inner, err := w.tag()
		if err != nil {
			return err
		}
		if inner != tagOneByte && inner != tagTwoByte && inner != tagUTF8 {
			return fmt.Errorf("%w: a String holds no string", ErrBroken)
		}
		return w.primitive(inner)
	default:
		return fmt.Errorf("%w: it has a part of the kind %q", ErrNotJSON, rune(tag))
	}
	return nil
}

func (w *toJSON) float(f float64) {
	switch abs := math.Abs(f); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		w.out = append(w.out, "null"...)
	case f == 0:
		w.out = append(w.out, '0')
	case abs < 1e-6 || abs >= 1e21:
		w.out = strconv.AppendFloat(w.out, f, 'e', -1, 64)
	default:
		w.out = strconv.AppendFloat(w.out, f, 'f', -1, 64)
	}
}

// date writes what Date.toJSON says.
func (w *toJSON) date() error {
	ms, err := w.double()
	if err != nil {
		return err
	}
	// JavaScript's dates end there.
	const most = 8.64e15
	if math.IsNaN(ms) || math.Abs(ms) > most {
		w.out = append(w.out, "null"...)
		return nil
	}
	t := time.UnixMilli(int64(ms)).UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return fmt.Errorf("%w: a date of the year %d", ErrNotJSON, y)
	}
	w.out = t.AppendFormat(w.out, `"2006-01-02T15:04:05.000Z"`)
	return nil
}

func (w *toJSON) str(s string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	// JSON.stringify leaves < and > alone.
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return fmt.Errorf("writing a string: %w", err)
	}
	w.out = append(w.out, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
	return nil
}

// properties writes those up to the end tag, and checks their count.
func (w *toJSON) properties(end byte, depth int) (count uint64, err error) {
	for {
		tag, err := w.tag()
		if err != nil {
			return 0, err
		}
		if tag == end {
			return count, nil
		}
		mark := len(w.out)
		if len(w.out) > 0 && w.out[len(w.out)-1] != '{' {
			w.out = append(w.out, ',')
		}
		if err := w.name(tag); err != nil {
			return 0, err
		}
		w.out = append(w.out, ':')
		there, err := w.value(depth + 1)
		if err != nil {
			return 0, err
		}
		if !there {
			w.out = w.out[:mark]
		}
		count++
	}
}

// name writes a property's: a string, or an index.
func (w *toJSON) name(tag byte) error {
	switch tag {
	case tagOneByte, tagTwoByte, tagUTF8:
		s, err := w.text(tag)
		if err != nil {
			return err
		}
		return w.str(s)
	case tagInt32, tagUint32, tagDouble:
		f, err := w.number(tag)
		if err != nil {
			return err
		}
		w.out = append(w.out, '"')
		w.float(f)
		w.out = append(w.out, '"')
		return nil
	}
	return fmt.Errorf("%w: a property has no name", ErrBroken)
}

func (w *toJSON) object(depth int) error {
	w.out = append(w.out, '{')
	count, err := w.properties(tagObjectEnd, depth)
	if err != nil {
		return err
	}
	w.out = append(w.out, '}')
	return w.counted(count)
}

func (w *toJSON) counted(count uint64) error {
	said, err := w.varint()
	if err == nil && said != count {
		err = fmt.Errorf("%w: %d properties instead of %d", ErrBroken, count, said)
	}
	return err
}

func (w *toJSON) dense(depth int) error {
	n, err := w.varint()
	if err != nil {
		return err
	}
	w.out = append(w.out, '[')
	for i := range n {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		there, err := w.value(depth + 1)
		if err != nil {
			return err
		}
		if !there {
			w.out = append(w.out, "null"...)
		}
	}
	if end, err := w.peek(); err != nil {
		return err
	} else if end != tagDenseEnd {
		return fmt.Errorf("%w: an array has properties", ErrNotJSON)
	}
	w.at = w.at + 1
	w.out = append(w.out, ']')
	if err := w.counted(0); err != nil {
		return err
	}
	return w.counted(n)
}
