// The words of the Compare view in the front end's language (the setting Comfy.Locale).

const WORDS = {
  en: {
    view: "Before and after",
    before: "Before",
    after: "After",
    reference: "Reference",
    depicts: (frame) => `frame ${frame}`,
    empty: "Run the workflow to compare before and after",
    gone: "The preview files are gone; run the workflow again",
    play: "Play (space)",
    pause: "Pause (space)",
    frame: "Frame (left and right arrow keys)",
    showReference: "Show the reference (R)",
    keyFrame: (frame) => `The reference depicts frame ${frame}`,
    split: "Drag; with shift, the arrow keys move it too",
    zoom: "After a click the wheel zooms; a double click resets",
  },
  zh: {
    view: "前后对比",
    before: "处理前",
    after: "处理后",
    reference: "参考图",
    depicts: (frame) => `第 ${frame} 帧`,
    empty: "运行工作流以对比处理前后的画面",
    gone: "预览文件已被清除，请重新运行工作流",
    play: "播放（空格键）",
    pause: "暂停（空格键）",
    frame: "帧（左右方向键）",
    showReference: "显示参考图（R 键）",
    keyFrame: (frame) => `参考图对应第 ${frame} 帧`,
    split: "拖动；也可按住 Shift 用方向键移动",
    zoom: "点击后滚轮缩放；双击复位",
  },
};

export const wordsIn = (locale) => (String(locale).startsWith("zh") ? WORDS.zh : WORDS.en);
