import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [svelte({ configFile: false })],
  build: {
    target: "es2023",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the server's content policy allows files of its own only
  },
  test: { include: ["src/**/*.test.ts"], testTimeout: 30_000 },
});
