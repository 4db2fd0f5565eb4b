// Package common is a drawer. Start with nothing. It promises nothing and is not for you.
package common
