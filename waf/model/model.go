// Package model weighs what is in a value: a logistic regression over grams of words and signs and
// over what detectors found, trained on public attacks and generated honest traffic. Start with
// [Default] and [Model.Score].
//
// It promises the same score for the same text wherever it runs, in time proportional to the text's
// length. It is not for training, which is waf/train's.
package model

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"bulkhead/waf/detect"
)

// Bits is the size of the table of weights: 2^Bits grams have a weight of their own or share one.
const Bits = 17

const mask = 1<<Bits - 1

// Model is what training leaves.
type Model struct {
	Version   string  // of the training
	Figures   string  // what it reached on sources held out, for people
	Threshold float32 // the score from which a value is an attack by itself
	Bias      float32
	Scale     float32 // of one step of a weight
	Weights   []int8  // 2^Bits of them
}

// Slot is the place of a gram's or a fact's weight.
func Slot(hash uint32) uint32 { return (hash ^ hash>>Bits) & mask }

// Norm is what the sum over n grams is divided by: more words are not more evidence by themselves.
func Norm(n int) float32 { return float32(math.Sqrt(float64(n)+4)) / 4 }

// Score is the logarithm of the odds that x is of an attack.
func (m *Model) Score(x *detect.Features) float32 {
	var facts int32
	for _, h := range x.Facts {
		facts += int32(m.Weights[Slot(h)])
	}
	best, start := float32(math.Inf(-1)), 0
	for _, end := range x.Ends {
		var sum int32
		for _, h := range x.Grams[start:end] {
			sum += int32(m.Weights[Slot(h)])
		}
		best = max(best, float32(sum)/Norm(end-start))
		start = end
	}
	return m.Bias + m.Scale*(float32(facts)+best)
}

//go:embed model.bin
var trained []byte

// Default is the model that comes with the program.
var Default = sync.OnceValue(func() *Model {
	m, err := Read(trained)
	if err != nil {
		panic("model: the embedded model does not read: " + err.Error())
	}
	return m
})

var magic = []byte("bulkhead waf model 1\n")

// Write returns m as a file.
func (m *Model) Write() []byte {
	b := append([]byte{}, magic...)
	for _, s := range []string{m.Version, m.Figures} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(m.Threshold))
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(m.Bias))
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(m.Scale))
	for _, w := range m.Weights {
		b = append(b, byte(w))
	}
	return b
}

// Read reads a file that [Model.Write] wrote.
func Read(b []byte) (*Model, error) {
	if len(b) < len(magic) || string(b[:len(magic)]) != string(magic) {
		return nil, errors.New("not a model of requests")
	}
	b = b[len(magic):]
	m := &Model{}
	for _, s := range []*string{&m.Version, &m.Figures} {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.LittleEndian.Uint32(b)) {
			return nil, errors.New("the model ends early")
		}
		n := binary.LittleEndian.Uint32(b)
		*s, b = string(b[4:4+n]), b[4+n:]
	}
	if len(b) != 12+1<<Bits {
		return nil, fmt.Errorf("the model has %d bytes of weights, not %d", len(b)-12, 1<<Bits)
	}
	m.Threshold = math.Float32frombits(binary.LittleEndian.Uint32(b))
	b = b[4:]
	m.Bias = math.Float32frombits(binary.LittleEndian.Uint32(b))
	m.Scale = math.Float32frombits(binary.LittleEndian.Uint32(b[4:]))
	m.Weights = make([]int8, 1<<Bits)
	for i := range m.Weights {
		m.Weights[i] = int8(b[8+i])
	}
	return m, nil
}
