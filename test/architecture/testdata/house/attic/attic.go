// Package attic is in no plan. Start with [Roof]. It promises rain. It is not for living.
package attic

const Roof = 1
