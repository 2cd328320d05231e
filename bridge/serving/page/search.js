// What the page asks the server, and in which requests. Every collection is shown on its own:
// cosines with items of different modalities do not compare.

import * as api from "./api.js";
import { fileRequest, modalityOf } from "./query.js";
import { asRequest, asWhere } from "./state.js";

export const PAGE = 24; // hits of one collection on a page
const STRIP = 10; // hits of one collection among several
const POOL = 60; // items of which a few are shown at the start

/** The collections that can be asked in a modality; all where it is not known. */
export const askable = (collections, modality) =>
  collections.filter(({ queries }) => !modality || queries.includes(modality));

/**
 * Have a file embedded wherever it can be asked. Its query in a state: the key that the server
 * keeps it under, or the file and its content where the server keeps none.
 */
export async function embedFile(file, { collections, limits }, signal) {
  const names = askable(collections, modalityOf(file)).map(({ name }) => name);
  const options = { k: 1, neighbours: true, ...(names.length && { collections: names }) };
  const content = await fileRequest(file, limits);
  const { query: { saved, modality: as } } = await api.search(content, options, signal);
  return saved ? { saved, as } : { file, content, as };
}

/**
 * [{collection, answer, problem}]: a page of one collection, or the best of each of several; a
 * problem where one cannot be searched.
 */
export async function hitsOf(state, collections, columns, limits, signal) {
  const alone = collections.length === 1;
  const offset = alone ? (state.page - 1) * pageSize(limits) : 0;
  const most = Math.max(1, limits.deepest - offset); // the last page may be a part of one
  const k = Math.min(alone ? pageSize(limits) : STRIP, limits.k, most);
  const where = asWhere(state.where, columns);
  const names = collections.map(({ name }) => name);
  const options = { collections: names, grouped: true, k, offset, ...(where && { where }) };
  const { groups, ...answer } = await api.search(asRequest(state.query), options, signal);
  const of = new Map(groups.map((group) => [group.collection, group]));
  return collections.map((collection) => {
    const { total, hits, problem } = of.get(collection.name);
    return { collection, problem, answer: { ...answer, total, hits } };
  });
}

export const pageSize = (limits) => Math.min(PAGE, limits.k);

/** How many pages `total` hits have, as far as the server goes. */
export const pagesOf = (total, limits) =>
  Math.ceil(Math.min(total, limits.deepest ?? total) / pageSize(limits));

/** The same for the memories in which the query's own embedding was looked up. */
export async function neighboursOf(state, served, modality, signal) {
  const able = askable(served.collections, modality).slice(0, 1).map(({ name }) => name);
  const options = { k: 1, neighbours: true, ...(able.length && { collections: able }) };
  const { neighbours, ...answer } = await api.search(asRequest(state.query), options, signal);
  if (!neighbours?.length) return [{ collection: null, answer: { ...answer, hits: [] } }];
  // A memory that several bridges join is several collections, whose neighbours are the same.
  return neighbours.map(({ memory, hits }) => ({
    collection: { ...served.collections.find((one) => one.memory === memory), name: memory },
    answer: { ...answer, hits: hits.map((hit) => ({ ...hit, memory })) },
  }));
}

/**
 * A few items of every collection, to look at before anything is asked: some of those that are
 * nearest to a direction that is always the same, so that the server keeps it once.
 */
export async function someOf({ collections, bridges, limits }) {
  const found = await Promise.all(bridges.map(async ({ name: space, dim }) => {
    const names = collections.filter(({ bridge }) => bridge === space).map(({ name }) => name);
    if (!names.length) return [];
    const embedding = Array.from({ length: dim }, (_, i) => Math.sin((i + 1) ** 2));
    const options = { collections: names, grouped: true, k: Math.min(POOL, limits.k) };
    const answer = await api.search({ embedding, space }, options).catch(() => null);
    return answer?.groups ?? [];
  }));
  const of = new Map(found.flat().map((group) => [group.collection, group]));
  return collections.filter(({ name }) => of.has(name)).map((collection) =>
    ({ collection, hits: sample(of.get(collection.name).hits, STRIP) }));
}

function sample(hits, number) {
  const left = [...hits];
  const taken = [];
  while (left.length && taken.length < number) {
    taken.push(...left.splice(Math.floor(Math.random() * left.length), 1));
  }
  return taken;
}
