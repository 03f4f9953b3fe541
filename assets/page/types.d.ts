/** Types shared by the page's modules; used only by `tsc`. */

/** The data of a sentence for all views, computed by neftune_core/noise/preview.py. */
interface Payload {
  key: string;
  tokens: string[];
  length: number;
  /** Number of tokens left out at the end of the sentence. */
  cut: number;
  width: number;
  padded_length: number;
  root_mean_square: number;
  /** Squared norms of the clean vectors. */
  signal: number[];
  /** Indices of the special tokens. */
  special: number[];
  /** Name of the draw for each kind of noise. */
  kinds: Record<string, string>;
  draws: Record<string, Draw>;
  dropped_below: Record<string, number[]>;
  realised: [number, number][];
  kind_notes: Record<string, string>;
  layer: number;
  behind: number[];
  model: string;
  colours: [string, string];
  views: Record<string, Figure>;
  plane: Points & { origin: [number, number]; share: number };
  bins_a_deviation: number;
  /** Number of integer steps per standard deviation in the repeated draws. */
  fineness: number;
  clean_histogram: number[];
  adaptive: number[];
  last_share: number;
  schedules: Record<string, string>;
}

interface Points {
  x: number[];
  y: number[];
}

/** A unit draw of noise: dot products with the clean vectors, squared norms, and coordinates in the plane. */
interface Draw {
  dot: number[];
  square: number[];
  plane: Points;
  histogram: number[];
}

/** Details that arrive after the first drawing: repeated draws, and the nearest tokens of the vocabulary. */
interface Details {
  key: string;
  spread: { kinds: string[]; draws: number; numbers: string };
  nearest: { neighbours: Points & { tokens: string[] }; changes?: Record<string, (number | string)[][]> };
  numbers?: Int16Array;
}

/** The effect of noise inside the model (evaluation/noise_propagation.py), sent by ui/tabs/views/noise_inside.py. */
interface Inside {
  key: string;
  asked: Pick<NoiseControls, "kind" | "unit" | "length_rule" | "tokens" | "special_tokens">;
  /** The reason why there are no measurements. */
  problem?: string;
  strengths: number[];
  draws: number;
  tokens: string[];
  /** Part of the model, and index of the layer in it; 0 is the embedding. */
  layers: [string, number][];
  /** Indexed by strength, layer and token; `lines` by strength and layer. */
  depth: { sizes: (number | null)[][][]; cosines: (number | null)[][][]; lines: Record<"sizes" | "cosines", OverDraws> };
  next: {
    /** Index of the first token after which a word is predicted. */
    first: number;
    divergence: Record<"mean" | "low" | "high", number[][]>;
    entropy: number[][];
    clean_entropy: number[];
    kept: number[][];
    words: string[];
    candidates: number[][][];
  };
}

/** Mean, minimum and maximum over the draws, by strength and layer. */
type OverDraws = Record<"mean" | "low" | "high", (number | null)[][]>;
/** The same at one strength, by layer. */
type AtLayers = Record<"mean" | "low" | "high", (number | null)[]>;

interface NoiseControls {
  strength: number;
  unit: "alpha" | "std" | "relative" | "share";
  kind: string;
  length_rule: string;
  special_tokens: boolean;
  tokens: string;
  sites: string;
  schedule: string;
  schedule_point: number;
  equal_energy: boolean;
  view: string;
}

/** The effect of noise on every token. */
interface TokenEffects {
  drops: boolean;
  deviation: number;
  skipped: Set<number>;
  before: number[];
  after: number[];
  cosines: (number | null)[];
  shares: number[];
}

/** A summary of the effect. */
interface NoiseEffect {
  equivalents: Record<string, number>;
  angle: number;
  share: number;
  decibels: number;
  drops: boolean;
}

/** The repeated draws of one kind of noise. */
interface Repeated {
  count: number;
  read: (draw: number, place: number) => { dot: number; square: number; x: number; y: number };
}

interface Band {
  low: number[];
  high: number[];
  count: number;
}

/** A Plotly trace or layout. */
type Trace = Record<string, any>;
type Layout = Record<string, any>;

/** A figure of neftune_core/figures. */
interface Figure {
  name: string;
  data: Trace[];
  layout: Layout;
  narrow?: Layout;
  summary: string;
  log?: boolean;
  /** Id of the record that the figure shows. */
  study?: string;
  view?: string;
}

/** A figure whose traces are computed in the browser whenever a control changes. */
interface Computed extends Figure {
  source?: string;
  payload?: any;
  controls?: Record<string, { id: string; value: any }>;
}

type Drawn = Pick<Figure, "data" | "layout" | "summary"> & Partial<Figure>;

/** A function that draws a view of the Noise tab for a sentence and the values of the controls. */
type View = (payload: Payload, controls: NoiseControls, result: TokenEffects, effect: NoiseEffect) => Drawn;

/** The message that the figure of the Noise tab sends to other parts. */
interface NoiseMessage extends Figure {
  payload: Payload;
  controls: NoiseControls;
  result: TokenEffects;
  effect: NoiseEffect;
  clipped: Clipped | null;
}

interface InUnit {
  strength: number;
  unit: NoiseControls["unit"];
}

/** A strength that the slider of another unit cannot reach. */
interface Clipped extends InUnit {
  wanted: number;
  before: InUnit;
}

interface Slider {
  minimum?: number;
  maximum: number;
  step: number;
}

/** The properties that a gr.HTML component passes when it is mounted. */
interface Given {
  part: string;
  element: HTMLElement;
  props: { value: any };
  watch: (name: "value", callback: () => void) => void;
  trigger: (event: string, data?: unknown) => void;
}

/** Changes of a trace (figures/base.py): new entries, and for each list the number of unchanged values and the values after them. */
interface Grown {
  whole?: Trace;
  set?: Record<string, any>;
  lists?: Record<string, [number, any[]]>;
}

/** News of a study, sent by ui/watching.py. */
interface StudyNews {
  gone?: boolean;
  running: boolean;
  state: string;
  progress: string;
  arms: string;
  size: number;
  tag?: string;
  figure?: Figure;
  changes?: { rest: Partial<Figure>; traces: Record<string, Grown>; order?: string[] };
}

interface Lesson {
  number: number;
  title: string;
  minutes: number;
  tab: string;
  tasks: { text: string; when: string }[];
  /** Summary of what the reader should have seen, shown at the end. */
  seen: string;
  /** Whether the recorded study is shown below the text. */
  stage: boolean;
}

/** The recorded study, from ui/parts/recorded_study.py. */
interface RecordedStudy {
  arms: RecordedArm[];
  steps: number;
  per_epoch: number;
  about: string;
  lead: string;
  result: string;
  sure: string;
  best: string;
  seen: { tokens: string[]; response: number; clean: number[]; epochs: Record<string, number[]>[] } | null;
}

interface RecordedArm {
  name: string;
  label: string;
  colour: string;
  train: [number, number][];
  held_out: [number, number][];
}

/** The server's description of the page's state. */
interface Described {
  fields: Record<string, { id: string; value: any; listed: boolean }>;
  in_use: Record<"model" | "data", Record<string, any>>;
  presets: Record<string, Record<"bundled" | "others", Record<string, any>>>;
  /** Identifier of the process that serves the page. */
  server: string;
}

/** The node of a live figure, with the figure object and the layout that Plotly stores on it. */
interface FigureNode extends HTMLElement {
  labFigure?: { draw: () => void; value: Computed };
  _fullLayout?: any;
}

declare var LabLanguage: {
  code: string;
  tag: string;
  text: (english: string, values?: Record<string, unknown>) => string;
  change: () => void;
  fromFramework: (english: string) => string;
};
declare var Plotly: any;
/** The figures of an exported report. */
declare var FIGURES: Figure[];

interface Window {
  Lab: any;
  LabLanguage: typeof LabLanguage;
  LabFirst?: { root: HTMLElement; stage: object };
  Plotly: any;
  /** The framework's description of the page. */
  gradio_config: {
    components: { id: number; type: string; props: { elem_id?: string } }[];
    dependencies: { targets: [number, string][]; backend_fn: boolean }[];
  };
  labWords?: Record<string, string>;
  labFramework: Record<string, string>;
  labWaiting?: { push: (given: Given) => unknown };
}

/** The losses of an answer's tokens, by arm, from neftune_core/studies/trained/rows.py. */
interface TokenLine {
  part: string;
  row: number;
  prompt: string;
  /** The arm that wrote the answer; "" for a row of the data. */
  arm: string;
  tokens: string[];
  kinds: string[];
  losses: Record<string, number[]>;
}

/** The difference in loss for one kind of token, from neftune_core/studies/trained/token_kinds.py. */
interface OfKind {
  tokens: number;
  difference: number;
  low: number | null;
  high: number | null;
}

/** The data of the By row view, sent by ui/tabs/views/compare_inside.py. */
interface TokenLines {
  arms: string[];
  colours: Record<string, string>;
  /** Names of the kinds of tokens. */
  names: Record<string, string>;
  parts: Record<string, TokenLine[]>;
  /** Differences by part, arm, reference and kind of token. */
  kinds: Record<string, Record<string, Record<string, Record<string, OfKind>>>>;
}
