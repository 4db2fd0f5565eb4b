package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"

	"bulkhead/waf/model"
)

// What training does: Adagrad over all examples some times, in an order of its own each time.
const (
	epochs  = 6
	rate    = 0.15
	decay   = 2e-6
	highest = 4 // of a weight, which is one byte in the file
	honestQ = 0.998
)

type trainer struct {
	w, g []float32
	bias float32
	gb   float32
}

func learn(all []example) *model.Model {
	t := &trainer{w: make([]float32, 1<<model.Bits), g: make([]float32, 1<<model.Bits)}
	r := rand.New(rand.NewPCG(3, 4))
	// A tenth of the honest requests only sets the threshold.
	var use, rest []int
	for i := range all {
		if !all[i].attack && all[i].request%10 == 9 {
			rest = append(rest, i)
		} else {
			use = append(use, i)
		}
	}
	for epoch := range epochs {
		r.Shuffle(len(use), func(i, j int) { use[i], use[j] = use[j], use[i] })
		loss := 0.0
		for _, i := range use {
			loss += t.step(&all[i])
		}
		fmt.Fprintf(os.Stderr, "epoch %d: loss %.4f\n", epoch+1, loss/float64(len(use)))
	}
	m := t.model()
	m.Threshold = threshold(m, all, rest)
	report(m, all, use)
	return m
}

// score is that of the model, with the window that decides.
func (t *trainer) score(e *example) (s float32, from, to int) {
	best, start := float32(math.Inf(-1)), 0
	for _, end := range e.ends {
		sum := float32(0)
		for _, h := range e.grams[start:end] {
			sum += t.w[model.Slot(h)]
		}
		if sum /= model.Norm(end - start); sum > best {
			best, from, to = sum, start, end
		}
		start = end
	}
	s = t.bias + best
	for _, h := range e.facts {
		s += t.w[model.Slot(h)]
	}
	return s, from, to
}

func (t *trainer) step(e *example) float64 {
	s, from, to := t.score(e)
	p := float32(1 / (1 + math.Exp(float64(-s))))
	y := float32(0)
	if e.attack {
		y = 1
	}
	grad := (p - y) * e.weight
	t.gb += grad * grad
	t.bias -= rate * grad / float32(math.Sqrt(float64(t.gb)+1))
	part := grad / model.Norm(to-from)
	for _, h := range e.grams[from:to] {
		t.move(model.Slot(h), part)
	}
	for _, h := range e.facts {
		t.move(model.Slot(h), grad)
	}
	if e.attack {
		return -math.Log(max(float64(p), 1e-9)) * float64(e.weight)
	}
	return -math.Log(max(1-float64(p), 1e-9)) * float64(e.weight)
}

func (t *trainer) move(slot uint32, grad float32) {
	grad += decay * t.w[slot]
	t.g[slot] += grad * grad
	w := t.w[slot] - rate*grad/float32(math.Sqrt(float64(t.g[slot])+0.05))
	t.w[slot] = max(-highest, min(highest, w))
}

func (t *trainer) model() *model.Model {
	m := &model.Model{Version: "2026.11", Bias: t.bias, Scale: highest / 127.0, Weights: make([]int8, len(t.w))}
	for i, w := range t.w {
		m.Weights[i] = int8(math.Round(float64(w / m.Scale)))
	}
	return m
}

// threshold is what honest requests that training did not see stay under.
func threshold(m *model.Model, all []example, rest []int) float32 {
	worst := map[int]float32{}
	for _, i := range rest {
		s := scoreOf(m, &all[i])
		if w, known := worst[all[i].request]; !known || s > w {
			worst[all[i].request] = s
		}
	}
	var scores []float32
	for _, s := range worst {
		scores = append(scores, s)
	}
	slices.Sort(scores)
	for _, q := range []float64{0.99, 0.995, 0.998, 0.999, 0.9995} {
		fmt.Fprintf(os.Stderr, "honest quantile %v: %.2f\n", q, scores[int(q*float64(len(scores)-1))])
	}
	honest := scores[int(honestQ*float64(len(scores)-1))]
	var found []float32
	for i := range all {
		if all[i].attack {
			found = append(found, scoreOf(m, &all[i]))
		}
	}
	slices.Sort(found)
	attack := found[len(found)/100]
	fmt.Fprintf(os.Stderr, "a hundredth of the attacks is under %.2f\n", attack)
	return honest + max(0, attack-honest)/3 // texts that were never seen go further than those
}

func report(m *model.Model, all []example, use []int) {
	attacks, found := 0, 0
	for _, i := range use {
		if all[i].attack {
			attacks++
			if scoreOf(m, &all[i]) >= m.Threshold || all[i].best >= 90 {
				found++
			}
		}
	}
	fmt.Fprintf(os.Stderr, "threshold %.2f; of the attacks it was trained with it finds %d of %d\n", m.Threshold, found, attacks)
}
